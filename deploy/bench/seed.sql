-- Messages of before those that were drained, in their place, and what projecting them leaves beside them. The people
-- stay, and their conversations are as they were then.
CREATE TABLE seeds AS SELECT row_number() OVER () - 1 AS n, one.* FROM (
	SELECT DISTINCT ON (conversation_id) *, split_part(external_id, ':', 1) AS channel, min(order_us) OVER () AS first_us
	FROM messages ORDER BY conversation_id, order_us) AS one;
CREATE INDEX ON seeds (n);
UPDATE conversations SET first_us = s.first_us - 1, last_us = s.first_us - 1, last_inbound_us = s.first_us - 1 FROM (SELECT first_us FROM seeds LIMIT 1) AS s;
CREATE TABLE told AS SELECT * FROM outbox WHERE topic = 'conversations' ORDER BY entries DESC LIMIT 1;
TRUNCATE seen_events, external_refs, messages, outbox;
-- Their indexes are made once all rows are there.
CREATE TABLE indexes AS SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS of, k.oid IS NOT NULL AS is_key,
	COALESCE('ALTER TABLE ' || i.indrelid::regclass || ' ADD CONSTRAINT ' || k.conname || ' ' || pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid)) AS make
	FROM pg_index i LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid
	WHERE i.indrelid IN ('seen_events'::regclass, 'external_refs'::regclass, 'messages'::regclass, 'outbox'::regclass);
DO $$ DECLARE drops text; BEGIN
	FOR drops IN SELECT CASE WHEN is_key THEN 'ALTER TABLE ' || of || ' DROP CONSTRAINT ' || name ELSE 'DROP INDEX ' || name END FROM indexes LOOP
		EXECUTE drops;
	END LOOP;
END $$;
-- An id as the mesh makes them: the time in milliseconds, then a hash. One expression: more would not be inlined, and a call costs
-- more than a row.
CREATE FUNCTION seed_id(what text, i bigint, us bigint) RETURNS text IMMUTABLE LANGUAGE sql AS $$
	SELECT overlay(overlay(md5(what || i::text) PLACING lpad(to_hex(us / 1000), 12, '0') || '8' FROM 1 FOR 13) PLACING '8' FROM 17 FOR 1)::uuid::text $$;
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
