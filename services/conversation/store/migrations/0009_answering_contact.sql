-- +goose Up

-- 1: an event named the contact, or nobody has to. 0: whoever answered to a signed address stands in, until one does:
-- its own contact may have been erased since.
ALTER TABLE conversations ADD COLUMN contact_named INTEGER NOT NULL DEFAULT 1;
