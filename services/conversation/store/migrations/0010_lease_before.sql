-- +goose Up

-- The last position before those that were given last, by a transaction that gave its own.
ALTER TABLE leases ADD COLUMN before BIGINT NOT NULL DEFAULT 0;
