-- +goose Up

-- Lists of conversations by what members filter by. The expression is the one that readers show.
CREATE INDEX conversations_status ON conversations (workspace_id,
    (CASE WHEN status IN ('snoozed', 'resolved') AND last_inbound_us > status_us THEN 'open' ELSE status END),
    last_us, id);
CREATE INDEX conversations_connection ON conversations (connection_id, last_us, id);

-- Files that lie in the bucket and that no message has taken yet. The object's key opens as an
-- attachment's does, the name with OriginUpload(id).
CREATE TABLE uploads (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    subject_id      TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    object_key      BYTEA NOT NULL,
    name            BYTEA NOT NULL,
    kind            TEXT NOT NULL,
    content_type    TEXT NOT NULL,
    size            BIGINT NOT NULL,
    object          TEXT NOT NULL,
    at_us           BIGINT NOT NULL
);
CREATE INDEX uploads_subject ON uploads (subject_id);
CREATE INDEX uploads_at ON uploads (at_us);
