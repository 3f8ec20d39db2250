-- +goose Up

-- Why the status is what it is: a word; empty where there is nothing to say.
ALTER TABLE connections ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';
-- 1: an account's owner granted the credentials to an app, and disconnecting takes them back at the provider.
ALTER TABLE connections ADD COLUMN granted INTEGER NOT NULL DEFAULT 0;
-- What buys new credentials, under the channel's keeper. It is never published.
ALTER TABLE connections ADD COLUMN sealed_refresh BYTEA;
-- When the credentials end, and when new ones are to be bought; who does so moves the latter on first.
ALTER TABLE connections ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN refresh_at BIGINT NOT NULL DEFAULT 0;
-- ok, failing, unknown; with a word why, and when the provider was last asked.
ALTER TABLE connections ADD COLUMN health TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE connections ADD COLUMN health_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN checked_at BIGINT NOT NULL DEFAULT 0;
-- When the provider is to be asked next; who does so moves it on first.
ALTER TABLE connections ADD COLUMN check_at BIGINT NOT NULL DEFAULT 0;

CREATE INDEX connections_check ON connections (check_at) WHERE check_at > 0;
CREATE INDEX connections_refresh ON connections (refresh_at) WHERE refresh_at > 0;
UPDATE connections SET check_at = 1 WHERE status = 'active';

-- A link that lets an account's owner connect it, for ten minutes and once.
CREATE TABLE authorisations (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL REFERENCES workspaces (id),
    channel         TEXT NOT NULL,
    app_id          TEXT NOT NULL,
    shop            TEXT NOT NULL,
    return_url      TEXT NOT NULL,
    -- pending, choosing, done, failed.
    status          TEXT NOT NULL,
    -- Of failed: a word why.
    error           TEXT NOT NULL,
    connection_id   TEXT NOT NULL,
    -- SHA-256 of the cookie of the browser that began, and of the state that it took to the provider and that nobody
    -- has brought back yet.
    browser_hash    BYTEA,
    state_hash      BYTEA,
    -- The accounts to choose from, under the channel's keeper.
    sealed_accounts BYTEA,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX authorisations_state ON authorisations (state_hash) WHERE state_hash IS NOT NULL;
CREATE INDEX authorisations_expiry ON authorisations (expires_at);

-- Grants that are to be taken back at their provider, after the connection has forgotten them.
CREATE TABLE withdrawals (
    id             TEXT PRIMARY KEY,
    connection_id  TEXT NOT NULL,
    channel        TEXT NOT NULL,
    external_id    TEXT NOT NULL,
    app_id         TEXT NOT NULL,
    -- A JSON object of texts.
    settings       TEXT NOT NULL,
    -- As the connection had them.
    sealed         BYTEA NOT NULL,
    sealed_refresh BYTEA,
    created_at     BIGINT NOT NULL,
    -- When it is to be tried; who does so moves it on first.
    try_at         BIGINT NOT NULL
);
CREATE INDEX withdrawals_try ON withdrawals (try_at);
CREATE INDEX withdrawals_account ON withdrawals (channel, external_id);
