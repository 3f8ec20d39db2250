-- +goose Up

-- What one transaction told of one workspace is one row: it takes as many positions as it has entries, and
-- position is the last of them. Where it has more than one, its payload is tributary.v1.OutboxEntries, and
-- message_key, type and traceparent are empty.
ALTER TABLE outbox ADD COLUMN entries INTEGER NOT NULL DEFAULT 1;
