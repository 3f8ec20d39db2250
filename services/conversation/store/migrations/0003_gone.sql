-- +goose Up

-- What was erased and may still be asked for: contacts and one-to-one conversations, by id. Those ids
-- are made of the subject's, which is never given again; so they stay gone for ever. A group lives on.
CREATE TABLE gone (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    kind         TEXT NOT NULL
);
