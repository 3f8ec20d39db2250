-- +goose Up

-- Objects of shops (orders, checkouts, refunds, fulfilments), each as its newest state by (order_us, event_id) has it,
-- and once for each subject that it names. Sealed Commerce with OriginCommerce(connection_id, kind, id, order_us);
-- null where the object is gone at the shop: its row stays, so that no older state brings it back.
--
-- Rows are locked by their subjects.
CREATE TABLE commerce (
    subject_id    TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    kind          TEXT NOT NULL,
    id            TEXT NOT NULL,
    workspace_id  TEXT NOT NULL,
    -- The order that a refund or a fulfilment is of; it may come later than they, or never.
    parent        TEXT NOT NULL DEFAULT '',
    order_us      BIGINT NOT NULL,
    event_id      TEXT NOT NULL,
    deleted       INTEGER NOT NULL DEFAULT 0,
    key_id        TEXT NOT NULL DEFAULT '',
    ciphertext    BYTEA,
    PRIMARY KEY (subject_id, connection_id, kind, id)
);
CREATE INDEX commerce_listed ON commerce (subject_id, kind, order_us, event_id) WHERE deleted = 0;
CREATE INDEX commerce_parent ON commerce (subject_id, connection_id, parent) WHERE parent <> '';
