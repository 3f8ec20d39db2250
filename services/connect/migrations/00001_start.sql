-- +goose Up

-- Times are UTC microseconds, 0 where there is none. Flags are 0 or 1. An empty text means "none".

CREATE TABLE workspaces (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    -- The operator's own: its owners make workspaces, and apps for all.
    operator   INTEGER NOT NULL,
    created_at BIGINT NOT NULL
);

-- One row once the installation has its first workspace, so that of two that begin at once one does.
CREATE TABLE installation (
    id           INTEGER PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id)
);

CREATE TABLE members (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE INDEX members_list ON members (workspace_id, created_at, id);

CREATE TABLE keys (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    member_id    TEXT NOT NULL REFERENCES members (id),
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    -- Separated by spaces; empty: all that the role implies.
    scopes       TEXT NOT NULL,
    -- SHA-256 of the secret half.
    hash         BYTEA NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE INDEX keys_list ON keys (workspace_id, created_at, id);

CREATE TABLE apps (
    id             TEXT PRIMARY KEY,
    -- Empty: the operator's, for every workspace.
    workspace_id   TEXT NOT NULL,
    channel        TEXT NOT NULL,
    name           TEXT NOT NULL,
    client_id      TEXT NOT NULL,
    external_id    TEXT NOT NULL,
    -- Under the channel's keeper.
    sealed_secrets BYTEA,
    created_at     BIGINT NOT NULL,
    -- A deleted app keeps its row, without secrets, so that its deletion can be published again.
    deleted_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX apps_name ON apps (channel, name) WHERE deleted_at = 0;
CREATE INDEX apps_list ON apps (workspace_id, created_at, id);

CREATE TABLE connections (
    id                 TEXT PRIMARY KEY,
    workspace_id       TEXT NOT NULL REFERENCES workspaces (id),
    channel            TEXT NOT NULL,
    external_id        TEXT NOT NULL,
    name               TEXT NOT NULL,
    -- active, reauthorise, revoked, disabled.
    status             TEXT NOT NULL,
    app_id             TEXT NOT NULL,
    -- A JSON object of texts.
    settings           TEXT NOT NULL,
    -- Under the channel's keeper; null when there are none.
    sealed_credentials BYTEA,
    -- When the credentials were last given: what a provider said before that is about older ones.
    authorised_at      BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    -- A workspace that connects an account again gets its connection back.
    UNIQUE (workspace_id, channel, external_id)
);
-- An account is connected in one workspace at a time.
CREATE UNIQUE INDEX connections_account ON connections (channel, external_id) WHERE status <> 'disabled';
CREATE INDEX connections_list ON connections (workspace_id, created_at, id);

-- Entries of the compacted topics that must be published again. What is published is the record as it is
-- then; mark tells one change from the next.
CREATE TABLE outbox (
    topic TEXT NOT NULL,
    key   TEXT NOT NULL,
    mark  TEXT NOT NULL,
    PRIMARY KEY (topic, key)
);

CREATE TABLE idempotency (
    workspace_id TEXT NOT NULL,
    key          TEXT NOT NULL,
    body_hmac    TEXT NOT NULL,
    resource_id  TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key)
);
