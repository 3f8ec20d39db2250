-- +goose Up

-- Of an event that became a dead letter, whose it is; '' once it was handled.
ALTER TABLE seen_events ADD COLUMN dead_subject TEXT NOT NULL DEFAULT '';
