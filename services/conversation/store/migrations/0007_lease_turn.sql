-- +goose Up

-- Which of its holder's turns at giving positions has locked the lease: the statements of a turn are sent together,
-- and must do nothing where the lock was not taken.
ALTER TABLE leases ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
