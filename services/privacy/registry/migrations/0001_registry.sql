-- +goose Up

-- Times are UTC microseconds; 0 where it has not come to that. No secret stands here: epoch secrets,
-- peppers and private spool keys lie in the key store.

-- At most one epoch is current, and one old while a turn is under way.
CREATE TABLE epochs (
    id       TEXT PRIMARY KEY,
    role     TEXT NOT NULL UNIQUE,
    begun_us BIGINT NOT NULL
);

CREATE TABLE subjects (
    id           TEXT PRIMARY KEY,
    key_id       TEXT NOT NULL UNIQUE,
    workspace_id TEXT NOT NULL,
    kind         TEXT NOT NULL,
    -- tributary.v1.SubjectState.
    state        BIGINT NOT NULL,
    -- The epoch whose secret wraps the data key; with it null once destroyed.
    epoch_id     TEXT REFERENCES epochs (id),
    wrapped_key  BYTEA,
    -- The identity's value under the data key; null once detached.
    identity     BYTEA,
    made_us      BIGINT NOT NULL,
    acquired_us  BIGINT NOT NULL,
    -- When holders were last asked whether they store anything.
    checked_us   BIGINT NOT NULL DEFAULT 0,
    frozen_us    BIGINT NOT NULL DEFAULT 0,
    -- When the erasure ledger had it.
    ledger_us    BIGINT NOT NULL DEFAULT 0,
    destroyed_us BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX subjects_epoch ON subjects (epoch_id, id);
CREATE INDEX subjects_unused ON subjects (state, checked_us, acquired_us);

-- Who has an identity, by its hash under an epoch's pepper. While a turn is under way a subject has two.
CREATE TABLE lookups (
    hash       BYTEA PRIMARY KEY,
    subject_id TEXT NOT NULL REFERENCES subjects (id),
    epoch_id   TEXT NOT NULL
);
CREATE INDEX lookups_subject ON lookups (subject_id);
CREATE INDEX lookups_epoch ON lookups (epoch_id);

-- Identities erased, by their hash under a list's own pepper.
CREATE TABLE erased_lists (
    id       TEXT PRIMARY KEY,
    -- 1, 2, …: of several processes one begins the next.
    number   BIGINT NOT NULL UNIQUE,
    begun_us BIGINT NOT NULL
);
CREATE TABLE erased (
    hash      BYTEA PRIMARY KEY,
    list_id   TEXT NOT NULL REFERENCES erased_lists (id),
    erased_us BIGINT NOT NULL
);
CREATE INDEX erased_list ON erased (list_id);

CREATE TABLE spool_keys (
    id            TEXT PRIMARY KEY,
    number        BIGINT NOT NULL UNIQUE,
    public_key    BYTEA NOT NULL,
    not_before_us BIGINT NOT NULL,
    published_us  BIGINT NOT NULL DEFAULT 0,
    -- When the private half is to be destroyed.
    destroyed_us  BIGINT NOT NULL DEFAULT 0
);

-- Secrets of the key store that are to be destroyed. A secret about to be made is listed too, and taken
-- off by the transaction that first refers to it: so none is left behind.
CREATE TABLE doomed_secrets (
    name          TEXT PRIMARY KEY,
    not_before_us BIGINT NOT NULL,
    -- 1: only after a backup that does not need it.
    after_backup  BIGINT NOT NULL
);

CREATE TABLE outbox (
    id      TEXT PRIMARY KEY,
    topic   TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BYTEA,
    -- What its acknowledgement is noted for: '', ledger or spool_key, and whose.
    effect  TEXT NOT NULL,
    ref     TEXT NOT NULL,
    made_us BIGINT NOT NULL
);
CREATE INDEX outbox_order ON outbox (made_us, id);
