-- +goose Up

-- Requests of persons. Times are UTC microseconds; 0 where it has not come to that.
CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    workspace_id  TEXT NOT NULL,
    type          TEXT NOT NULL,
    contact_id    TEXT NOT NULL,
    -- running, failed (a holder failed; tried again) or completed.
    status        TEXT NOT NULL,
    -- freezing, closing, waiting, erasing, destroying, certifying, done: where to resume.
    step          TEXT NOT NULL,
    -- The API key that asked.
    requested_by  TEXT NOT NULL,
    received_us   BIGINT NOT NULL,
    frozen_us     BIGINT NOT NULL DEFAULT 0,
    empty_us      BIGINT NOT NULL DEFAULT 0,
    destroyed_us  BIGINT NOT NULL DEFAULT 0,
    completed_us  BIGINT NOT NULL DEFAULT 0,
    -- Which holder failed and the class of why.
    failed        TEXT NOT NULL DEFAULT '',
    certificate   BYTEA
);
-- A second request for a contact joins the first.
CREATE UNIQUE INDEX requests_contact ON requests (workspace_id, type, contact_id);
CREATE INDEX requests_open ON requests (received_us) WHERE step <> 'done';
CREATE INDEX requests_listed ON requests (workspace_id, received_us, id);

CREATE TABLE request_subjects (
    request_id TEXT NOT NULL REFERENCES requests (id),
    subject_id TEXT NOT NULL,
    PRIMARY KEY (request_id, subject_id)
);

-- The holders that there were when erasing began, and what each answered for each subject.
CREATE TABLE request_holders (
    request_id TEXT NOT NULL REFERENCES requests (id),
    holder     TEXT NOT NULL,
    PRIMARY KEY (request_id, holder)
);

CREATE TABLE request_answers (
    request_id  TEXT NOT NULL REFERENCES requests (id),
    holder      TEXT NOT NULL,
    subject_id  TEXT NOT NULL,
    answered_us BIGINT NOT NULL,
    failed      TEXT NOT NULL,
    -- Counts by kind of record, as JSON.
    found       TEXT NOT NULL,
    deleted     TEXT NOT NULL,
    kept        TEXT NOT NULL,
    PRIMARY KEY (request_id, holder, subject_id)
);

CREATE TABLE idempotency (
    workspace_id TEXT NOT NULL,
    key          TEXT NOT NULL,
    body_hmac    TEXT NOT NULL,
    resource_id  TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key)
);
