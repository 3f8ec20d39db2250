-- +goose Up

-- Who holds a lease, so that a process that was killed takes its own over when it starts again.
ALTER TABLE leases ADD COLUMN owner TEXT NOT NULL DEFAULT '';
