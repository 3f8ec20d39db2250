-- +goose Up

-- A pseudonym of who granted the account to the app; empty where nobody did, or the provider tells of nobody.
ALTER TABLE connections ADD COLUMN grantor TEXT NOT NULL DEFAULT '';
