-- +goose Up

-- Times and orders are UTC microseconds. Flags are 0 or 1. An empty text means "none". Sealed parts lie
-- in three columns: whose (subject), which key, nonce and ciphertext.
--
-- Locks are taken in this order: subjects, contacts, conversations, external_refs, messages and what
-- hangs on them, connection_slots.

CREATE TABLE subjects (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    -- The newest key id seen; what members write to the person is sealed with it.
    key_id       TEXT NOT NULL DEFAULT '',
    -- frozen: shown nowhere any more. gone: erased; nothing is written for it ever again.
    frozen       INTEGER NOT NULL DEFAULT 0,
    gone         INTEGER NOT NULL DEFAULT 0
);
-- Whom readers leave out: few of many.
CREATE INDEX subjects_hidden ON subjects (id) WHERE frozen = 1 OR gone = 1;

CREATE TABLE seen_events (
    id    TEXT PRIMARY KEY,
    at_us BIGINT NOT NULL
);
CREATE INDEX seen_events_at ON seen_events (at_us);

CREATE TABLE contacts (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    -- The contact's smallest subject.
    subject_id   TEXT NOT NULL UNIQUE,
    -- The smallest order of what the person did or was sent.
    created_us   BIGINT NOT NULL,
    frozen       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX contacts_workspace ON contacts (workspace_id, created_us, id);

-- How a subject is known on a channel. The profile part that came with the person's first act: it
-- holds the address that a reply goes to.
CREATE TABLE identities (
    subject_id    TEXT PRIMARY KEY,
    workspace_id  TEXT NOT NULL,
    contact_id    TEXT NOT NULL,
    channel       TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    kind          TEXT NOT NULL,
    key_id        TEXT NOT NULL DEFAULT '',
    ciphertext    BYTEA,
    order_us      BIGINT NOT NULL,
    event_id      TEXT NOT NULL
);
CREATE INDEX identities_contact ON identities (contact_id);

-- What profile events said of a subject, each kept as long as a copy of it may come: the newest by
-- (order_us, event_id) is shown.
CREATE TABLE profiles (
    subject_id   TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    order_us     BIGINT NOT NULL,
    key_id       TEXT NOT NULL,
    ciphertext   BYTEA NOT NULL,
    PRIMARY KEY (subject_id, event_id)
);

CREATE TABLE conversations (
    -- The conversation key.
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    channel         TEXT NOT NULL,
    connection_id   TEXT NOT NULL,
    -- One-to-one: the contact and its subject. Empty in a group.
    contact_id      TEXT NOT NULL DEFAULT '',
    contact_subject TEXT NOT NULL DEFAULT '',
    -- A group's own subject, which seals what members write there; empty until they do.
    own_subject     TEXT NOT NULL DEFAULT '',
    own_key_id      TEXT NOT NULL DEFAULT '',
    thread_id       TEXT NOT NULL DEFAULT '',
    is_group        INTEGER NOT NULL DEFAULT 0,
    -- A member's decision and when: open, pending, snoozed, resolved. What the person wrote after it
    -- (last_inbound_us > status_us) opens a snoozed or resolved one; readers apply that.
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
    parked          INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX conversations_workspace ON conversations (workspace_id, last_us, id);
CREATE INDEX conversations_contact ON conversations (contact_id) WHERE contact_id <> '';
CREATE INDEX conversations_own ON conversations (own_subject) WHERE own_subject <> '';
CREATE INDEX conversations_outstanding ON conversations (out_connection, out_us) WHERE out_message <> '';
CREATE INDEX conversations_next ON conversations (connection_id, next_us) WHERE next_us > 0 AND out_message = '' AND parked = 0;
CREATE INDEX conversations_parked ON conversations (connection_id) WHERE parked = 1;

-- Who writes in a group.
CREATE TABLE participants (
    conversation_id TEXT NOT NULL,
    subject_id      TEXT NOT NULL,
    PRIMARY KEY (conversation_id, subject_id)
);
CREATE INDEX participants_subject ON participants (subject_id);

-- What a provider calls a message. Whoever brings a message, or something about one, upserts this row
-- first: it locks, so neither misses the other on another partition.
CREATE TABLE external_refs (
    connection_id TEXT NOT NULL,
    external_id   TEXT NOT NULL,
    -- Empty while the message is awaited.
    message_id    TEXT NOT NULL DEFAULT '',
    -- Of our own messages: which part and attempt became this.
    part          INTEGER NOT NULL DEFAULT 0,
    attempt       INTEGER NOT NULL DEFAULT 0,
    -- The smallest order of its deletions; 0 when it was not deleted.
    deleted_us    BIGINT NOT NULL DEFAULT 0,
    -- How often it was upserted again: 0 tells who inserts it that nothing waits and nothing was there.
    touched       INTEGER NOT NULL DEFAULT 0,
    at_us         BIGINT NOT NULL,
    PRIMARY KEY (connection_id, external_id)
);
CREATE INDEX external_refs_waiting ON external_refs (at_us) WHERE message_id = '';
CREATE INDEX external_refs_message ON external_refs (message_id) WHERE message_id <> '';

CREATE TABLE messages (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    connection_id   TEXT NOT NULL,
    -- inbound, outbound or note.
    direction       TEXT NOT NULL,
    -- Who wrote it: a person's subject, a member, or neither (a machine, or the account elsewhere).
    author_subject  TEXT NOT NULL DEFAULT '',
    member_id       TEXT NOT NULL DEFAULT '',
    automated       INTEGER NOT NULL DEFAULT 0,
    -- The provider's type of the event that head_rank and head_event name.
    source_type     TEXT NOT NULL DEFAULT '',
    head_rank       INTEGER NOT NULL DEFAULT 0,
    head_event      TEXT NOT NULL DEFAULT '',
    -- Messages are listed by (order_us, id).
    order_us        BIGINT NOT NULL,
    external_id     TEXT NOT NULL DEFAULT '',
    -- The provider's id of the message that this one answers; found through external_refs.
    reply_to        TEXT NOT NULL DEFAULT '',
    -- Sealed Content: opens with OriginContent(content_id, content_order). Null when deleted or none.
    content_subject TEXT NOT NULL DEFAULT '',
    content_key     TEXT NOT NULL DEFAULT '',
    ciphertext      BYTEA,
    content_id      TEXT NOT NULL DEFAULT '',
    content_order   BIGINT NOT NULL DEFAULT 0,
    -- Where the content came from: the largest rank, then the largest event id; an edit beats all.
    content_rank    INTEGER NOT NULL DEFAULT 0,
    content_event   TEXT NOT NULL DEFAULT '',
    -- The order of the newest edit; 0 when never edited. 0 also when never deleted.
    edited_us       BIGINT NOT NULL DEFAULT 0,
    deleted_us      BIGINT NOT NULL DEFAULT 0,
    -- Outbound through the mesh: tributary.v1.Status of the whole, and the error of the part that failed.
    status          INTEGER NOT NULL DEFAULT 0,
    error_class     INTEGER NOT NULL DEFAULT 0,
    error_code      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX messages_conversation ON messages (conversation_id, order_us, id);
CREATE INDEX messages_workspace ON messages (workspace_id, order_us, id);

-- Edits, each kept as long as a copy of it may come. message_id is empty while the message is awaited.
CREATE TABLE edits (
    event_id        TEXT PRIMARY KEY,
    connection_id   TEXT NOT NULL,
    external_id     TEXT NOT NULL,
    message_id      TEXT NOT NULL DEFAULT '',
    author_subject  TEXT NOT NULL DEFAULT '',
    order_us        BIGINT NOT NULL,
    -- Sealed with OriginContent(content_id, content_order).
    content_subject TEXT NOT NULL DEFAULT '',
    content_key     TEXT NOT NULL DEFAULT '',
    ciphertext      BYTEA,
    content_id      TEXT NOT NULL,
    content_order   BIGINT NOT NULL,
    at_us           BIGINT NOT NULL
);
CREATE INDEX edits_at ON edits (at_us);
CREATE INDEX edits_waiting ON edits (at_us) WHERE message_id = '';
CREATE INDEX edits_target ON edits (connection_id, external_id);
CREATE INDEX edits_message ON edits (message_id) WHERE message_id <> '';
CREATE INDEX edits_subject ON edits (content_subject);

-- Reactions set and taken; of one key the newest by (order_us, event_id) counts. message_id is empty
-- while the message is awaited. Sealed Content (emoji) with OriginReaction(reaction_key, content_order).
CREATE TABLE reactions (
    event_id       TEXT PRIMARY KEY,
    connection_id  TEXT NOT NULL,
    external_id    TEXT NOT NULL,
    message_id     TEXT NOT NULL DEFAULT '',
    workspace_id   TEXT NOT NULL,
    reaction_key   TEXT NOT NULL,
    author_subject TEXT NOT NULL DEFAULT '',
    order_us       BIGINT NOT NULL,
    removed        INTEGER NOT NULL DEFAULT 0,
    key_id         TEXT NOT NULL DEFAULT '',
    ciphertext     BYTEA,
    content_order  BIGINT NOT NULL,
    at_us          BIGINT NOT NULL
);
CREATE INDEX reactions_waiting ON reactions (at_us) WHERE message_id = '';
CREATE INDEX reactions_target ON reactions (connection_id, external_id);
CREATE INDEX reactions_message ON reactions (message_id) WHERE message_id <> '';
CREATE INDEX reactions_author ON reactions (author_subject);

-- Attachments: name and address are sealed in the content. declared: the message (or an edit) names it;
-- until then it waits. object is the key in the bucket, key_* its data key (OriginAttachment(id)).
CREATE TABLE attachments (
    id             TEXT PRIMARY KEY,
    workspace_id   TEXT NOT NULL,
    connection_id  TEXT NOT NULL,
    external_id    TEXT NOT NULL DEFAULT '',
    message_id     TEXT NOT NULL DEFAULT '',
    -- Whose it is: the subject that seals the message.
    subject_id     TEXT NOT NULL DEFAULT '',
    declared       INTEGER NOT NULL DEFAULT 0,
    position       INTEGER NOT NULL DEFAULT 0,
    kind           TEXT NOT NULL DEFAULT '',
    content_type   TEXT NOT NULL DEFAULT '',
    size           BIGINT NOT NULL DEFAULT 0,
    object         TEXT NOT NULL DEFAULT '',
    key_subject    TEXT NOT NULL DEFAULT '',
    key_id         TEXT NOT NULL DEFAULT '',
    ciphertext     BYTEA,
    failed         TEXT NOT NULL DEFAULT '',
    -- The newest (order, event id) of what said so; 0 and empty while it was not fetched.
    order_us       BIGINT NOT NULL DEFAULT 0,
    event_id       TEXT NOT NULL DEFAULT '',
    at_us          BIGINT NOT NULL
);
CREATE INDEX attachments_message ON attachments (message_id);
CREATE INDEX attachments_waiting ON attachments (at_us) WHERE message_id = '';
CREATE INDEX attachments_target ON attachments (connection_id, external_id);
CREATE INDEX attachments_subject ON attachments (subject_id);

-- Attempts at the parts of outbound messages. The newest attempt of a part is the one shown.
CREATE TABLE message_parts (
    message_id      TEXT NOT NULL,
    part            INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    conversation_id TEXT NOT NULL,
    connection_id  TEXT NOT NULL,
    -- tributary.v1.Status; it only rises.
    status         INTEGER NOT NULL,
    -- What decided the status, and its error.
    status_order   BIGINT NOT NULL DEFAULT 0,
    status_event   TEXT NOT NULL DEFAULT '',
    error_class    INTEGER NOT NULL DEFAULT 0,
    error_code     TEXT NOT NULL DEFAULT '',
    -- Egress gave it back without a call: a newer attempt took its place.
    deferred       INTEGER NOT NULL DEFAULT 0,
    -- The order of the message: the line that queued parts stand in is (line_us, message_id, part).
    line_us        BIGINT NOT NULL,
    not_before_us  BIGINT NOT NULL DEFAULT 0,
    until_active   INTEGER NOT NULL DEFAULT 0,
    -- tributary.v1.CommandKind, and the attachment that the part is.
    kind           INTEGER NOT NULL,
    attachment_id  TEXT NOT NULL DEFAULT '',
    -- The part's words, sealed with OriginCommand(message, part, attempt). Null: to be sealed anew before
    -- it leaves.
    subject_id     TEXT NOT NULL DEFAULT '',
    key_id         TEXT NOT NULL DEFAULT '',
    ciphertext     BYTEA,
    external_id    TEXT NOT NULL DEFAULT '',
    -- The provider's time of it (sent_exact), else when it was reported sent; 0 before.
    sent_us        BIGINT NOT NULL DEFAULT 0,
    sent_exact     INTEGER NOT NULL DEFAULT 0,
    -- When a member first asked for it: it expires by this.
    created_us     BIGINT NOT NULL,
    -- The trace that asked for it.
    traceparent    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message_id, part, attempt)
);
CREATE INDEX message_parts_queued ON message_parts (conversation_id, line_us, message_id, part) WHERE status = 1 AND deferred = 0;
CREATE INDEX message_parts_open ON message_parts (created_us) WHERE status < 3 AND deferred = 0;
CREATE INDEX message_parts_sent ON message_parts (conversation_id, sent_us) WHERE sent_us > 0;

-- Receipts of a message whose provider's id is not known yet.
CREATE TABLE waiting_receipts (
    event_id      TEXT PRIMARY KEY,
    connection_id TEXT NOT NULL,
    external_id   TEXT NOT NULL,
    -- The receipt event, which holds ids and classes only.
    event         BYTEA NOT NULL,
    at_us         BIGINT NOT NULL
);
CREATE INDEX waiting_receipts_external ON waiting_receipts (connection_id, external_id);
CREATE INDEX waiting_receipts_at ON waiting_receipts (at_us);

-- Consent given and withdrawn. On a connection the newest opt_in or opt_out by (order_us, event_id) of
-- the connection's own and the workspace-wide ones counts.
CREATE TABLE consents (
    event_id       TEXT PRIMARY KEY,
    workspace_id   TEXT NOT NULL,
    subject_id     TEXT NOT NULL,
    connection_id  TEXT NOT NULL,
    channel        TEXT NOT NULL,
    action         TEXT NOT NULL,
    source         TEXT NOT NULL,
    workspace_wide INTEGER NOT NULL,
    order_us       BIGINT NOT NULL
);
CREATE INDEX consents_subject ON consents (subject_id);

-- Events of types that this version does not know, as they came: still sealed.
CREATE TABLE unknown_events (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    subject_id      TEXT NOT NULL DEFAULT '',
    type            INTEGER NOT NULL,
    order_us        BIGINT NOT NULL,
    event           BYTEA NOT NULL
);
CREATE INDEX unknown_events_subject ON unknown_events (subject_id);

-- One row a connection: locked by whoever issues a command, so that no more than 64 are outstanding.
CREATE TABLE connection_slots (
    connection_id TEXT PRIMARY KEY,
    -- The order of the provider's newest revocation: nothing leaves before the connection was changed after.
    revoked_us    BIGINT NOT NULL DEFAULT 0
);

-- What is to be published, in the order of (seq, id) until the relay gives each row its position. The
-- live stream reads the rows of topic conversations by position.
CREATE TABLE outbox (
    id              TEXT PRIMARY KEY,
    seq             BIGINT NOT NULL,
    topic           TEXT NOT NULL,
    message_key     TEXT NOT NULL,
    payload         BYTEA NOT NULL,
    -- CloudEvents type and the trace that it belongs to.
    type            TEXT NOT NULL,
    traceparent     TEXT NOT NULL DEFAULT '',
    workspace_id    TEXT NOT NULL,
    conversation_id TEXT NOT NULL DEFAULT '',
    position        BIGINT,
    created_us      BIGINT NOT NULL,
    published_us    BIGINT
);
CREATE INDEX outbox_seq ON outbox (seq);
CREATE UNIQUE INDEX outbox_position ON outbox (position);
CREATE INDEX outbox_unplaced ON outbox (seq, id) WHERE position IS NULL;
CREATE INDEX outbox_unpublished ON outbox (position) WHERE published_us IS NULL;
CREATE INDEX outbox_stream ON outbox (workspace_id, topic, position);

CREATE TABLE leases (
    name     TEXT PRIMARY KEY,
    token    TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    -- The last position given.
    position BIGINT NOT NULL DEFAULT 0
);

-- Privacy commands done, with the answer given.
CREATE TABLE privacy_commands (
    id    TEXT PRIMARY KEY,
    ack   BYTEA NOT NULL,
    at_us BIGINT NOT NULL
);

-- Objects of the bucket to delete.
CREATE TABLE object_deletions (
    object TEXT PRIMARY KEY,
    at_us  BIGINT NOT NULL
);

CREATE TABLE idempotency (
    workspace_id TEXT NOT NULL,
    key          TEXT NOT NULL,
    body_hmac    TEXT NOT NULL,
    resource_id  TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key)
);
