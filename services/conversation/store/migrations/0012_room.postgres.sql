-- +goose Up

-- Rows that are written again and again find room for the next version in their own page, which leaves the indexes alone.
ALTER TABLE conversations SET (fillfactor = 50);
ALTER TABLE subjects SET (fillfactor = 50);
