-- Messages of before those that were drained, in their place, and what projecting them leaves beside them. The people
-- stay, and their conversations are as they were then.
CREATE TABLE seeds AS SELECT row_number() OVER () - 1 AS n, one.* FROM (
	SELECT DISTINCT ON (conversation_id) *, split_part(external_id, ':', 1) AS channel, min(order_us) OVER () AS first_us
	FROM messages ORDER BY conversation_id, order_us) AS one;
CREATE INDEX ON seeds (n);
UPDATE conversations SET first_us = s.first_us - 1, last_us = s.first_us - 1, last_inbound_us = s.first_us - 1 FROM (SELECT first_us FROM seeds LIMIT 1) AS s;
CREATE TABLE told AS SELECT * FROM outbox WHERE topic = 'conversations' ORDER BY entries DESC LIMIT 1;
TRUNCATE seen_events, external_refs, messages, outbox;
-- An id as the mesh makes them: the time in milliseconds, then a hash.
CREATE FUNCTION seed_id(what text, i bigint, us bigint) RETURNS text IMMUTABLE LANGUAGE sql AS $$
	SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-8' || substr(h, 13, 3) || '-8' || substr(h, 16, 3) || '-' || substr(h, 19, 12)
	FROM (SELECT lpad(to_hex(us / 1000), 12, '0') || md5(what || i) AS h) AS made $$;
ANALYZE seeds

-- In steps:
-- Of $1 messages, the first of which is number $2 of $3, in the order of time, 40 ms apart. Each is like one of the
-- same conversation.
INSERT INTO messages (id, workspace_id, conversation_id, connection_id, direction, author_subject, source_type, head_rank, head_event, order_us,
		external_id, content_subject, content_key, ciphertext, content_id, content_order, content_rank, content_event)
	SELECT seed_id('message', i, us), workspace_id, conversation_id, connection_id, direction, author_subject, source_type, head_rank,
		seed_id('event', i, us), us, channel || ':' || us / 1000000 || '.' || lpad((us % 1000000)::text, 6, '0'), content_subject, content_key, ciphertext,
		seed_id('message', i, us), us, content_rank, seed_id('event', i, us)
	FROM (SELECT i, (SELECT first_us FROM seeds LIMIT 1) - ($3::bigint - i) * 40000 AS us FROM generate_series($2::bigint, $2::bigint + $1::bigint - 1) AS i) AS at
	JOIN seeds ON seeds.n = at.i % (SELECT count(*) FROM seeds) ORDER BY i
;
INSERT INTO external_refs (connection_id, external_id, message_id, at_us)
	SELECT connection_id, channel || ':' || us / 1000000 || '.' || lpad((us % 1000000)::text, 6, '0'), seed_id('message', i, us), us
	FROM (SELECT i, (SELECT first_us FROM seeds LIMIT 1) - ($3::bigint - i) * 40000 AS us FROM generate_series($2::bigint, $2::bigint + $1::bigint - 1) AS i) AS at
	JOIN seeds ON seeds.n = at.i % (SELECT count(*) FROM seeds) ORDER BY i
;
INSERT INTO seen_events (id, at_us) SELECT seed_id('event', i, us), us
	FROM (SELECT i, (SELECT first_us FROM seeds LIMIT 1) - ($3::bigint - i) * 40000 AS us FROM generate_series($2::bigint, $2::bigint + $1::bigint - 1) AS i) AS at
;
-- A batch of messages is one row here.
INSERT INTO outbox (id, seq, topic, message_key, payload, type, workspace_id, position, created_us, published_us, entries)
	SELECT seed_id('outbox', i, us), us, topic, message_key, payload, type, workspace_id, us, us, us, entries
	FROM (SELECT i, (SELECT first_us FROM seeds LIMIT 1) - ($3::bigint - i) * 40000 AS us FROM generate_series($2::bigint, $2::bigint + $1::bigint - 1, 500) AS i) AS at,
		told
