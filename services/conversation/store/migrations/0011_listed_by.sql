-- +goose Up

-- What conversations are listed along changes seldom while somebody writes: an update that changes no indexed column stays
-- in its row's page and leaves all indexes alone, on PostgreSQL. A column like that can't be added on SQLite, so the table is
-- made anew.
ALTER TABLE conversations RENAME TO conversations_before;
CREATE TABLE conversations (
    -- The conversation key.
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    channel         TEXT NOT NULL,
    connection_id   TEXT NOT NULL,
    -- One-to-one: the contact and its subject. Empty in a group.
    contact_id      TEXT NOT NULL DEFAULT '',
    contact_subject TEXT NOT NULL DEFAULT '',
    -- 1: an event named the contact, or nobody has to. 0: whoever answered to a signed address stands in, until one does:
    -- its own contact may have been erased since.
    contact_named   INTEGER NOT NULL DEFAULT 1,
    -- A group's own subject, which seals what members write there; empty until they do.
    own_subject     TEXT NOT NULL DEFAULT '',
    own_key_id      TEXT NOT NULL DEFAULT '',
    thread_id       TEXT NOT NULL DEFAULT '',
    is_group        INTEGER NOT NULL DEFAULT 0,
    -- A member's decision and when: open, pending, snoozed, resolved.
    status          TEXT NOT NULL DEFAULT 'open',
    status_us       BIGINT NOT NULL DEFAULT 0,
    -- Smallest and largest order of its messages, and the largest of the inbound ones; 0 while none.
    first_us        BIGINT NOT NULL DEFAULT 0,
    last_us         BIGINT NOT NULL DEFAULT 0,
    last_inbound_us BIGINT NOT NULL DEFAULT 0,
    -- Members have read up to here; unread are inbound messages with order_us above it.
    read_us         BIGINT NOT NULL DEFAULT 0,
    -- The person's watermarks: what was sent up to then is delivered, or read.
    delivered_us    BIGINT NOT NULL DEFAULT 0,
    seen_us         BIGINT NOT NULL DEFAULT 0,
    frozen          INTEGER NOT NULL DEFAULT 0,
    -- The one outstanding command; empty when none is.
    out_message     TEXT NOT NULL DEFAULT '',
    out_part        INTEGER NOT NULL DEFAULT 0,
    out_attempt     INTEGER NOT NULL DEFAULT 0,
    out_connection  TEXT NOT NULL DEFAULT '',
    out_us          BIGINT NOT NULL DEFAULT 0,
    -- When the first of the queued parts may leave; 0 when nothing is queued. parked: not before the
    -- connection is active.
    next_us         BIGINT NOT NULL DEFAULT 0,
    parked          INTEGER NOT NULL DEFAULT 0,
    -- The status as it is read: what the person wrote after a member's decision opens a snoozed or resolved one.
    status_shown    TEXT NOT NULL GENERATED ALWAYS AS
        (CASE WHEN status IN ('snoozed', 'resolved') AND last_inbound_us > status_us THEN 'open' ELSE status END) STORED,
    -- The 67 s (2^26 us) that last_us lies in: lists go through these, and sort what is within one.
    last_bucket     BIGINT NOT NULL GENERATED ALWAYS AS (last_us >> 26) STORED
);
INSERT INTO conversations (id, workspace_id, channel, connection_id, contact_id, contact_subject, contact_named, own_subject, own_key_id,
        thread_id, is_group, status, status_us, first_us, last_us, last_inbound_us, read_us, delivered_us, seen_us, frozen,
        out_message, out_part, out_attempt, out_connection, out_us, next_us, parked)
    SELECT id, workspace_id, channel, connection_id, contact_id, contact_subject, contact_named, own_subject, own_key_id,
        thread_id, is_group, status, status_us, first_us, last_us, last_inbound_us, read_us, delivered_us, seen_us, frozen,
        out_message, out_part, out_attempt, out_connection, out_us, next_us, parked
    FROM conversations_before;
DROP TABLE conversations_before;
CREATE INDEX conversations_workspace ON conversations (workspace_id, last_bucket);
CREATE INDEX conversations_status ON conversations (workspace_id, status_shown, last_bucket);
CREATE INDEX conversations_connection ON conversations (connection_id, last_bucket);
CREATE INDEX conversations_contact ON conversations (contact_id) WHERE contact_id <> '';
CREATE INDEX conversations_own ON conversations (own_subject) WHERE own_subject <> '';
CREATE INDEX conversations_outstanding ON conversations (out_connection, out_us) WHERE out_message <> '';
CREATE INDEX conversations_next ON conversations (connection_id, next_us) WHERE next_us > 0 AND out_message = '' AND parked = 0;
CREATE INDEX conversations_parked ON conversations (connection_id) WHERE parked = 1;
