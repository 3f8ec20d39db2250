package project

import (
	"context"
	"errors"
	"time"

	"tributary.dev/libs/sqldb"
)

// Horizon is how long a copy of an event, or what it waits for, may still come: longer than topics,
// spools and dead letters live.
const Horizon = 45 * 24 * time.Hour

// forgetBatch rows are forgotten in one transaction.
const forgetBatch = 1000

// forgets are what is forgotten at the horizon: $1 is its time, $2 how many rows at once.
var forgets = []string{
	"DELETE FROM seen_events WHERE id IN (SELECT id FROM seen_events WHERE at_us < $1 ORDER BY at_us LIMIT $2)",
	"DELETE FROM edits WHERE event_id IN (SELECT event_id FROM edits WHERE message_id = '' AND at_us < $1 ORDER BY at_us LIMIT $2)",
	"DELETE FROM reactions WHERE event_id IN (SELECT event_id FROM reactions WHERE message_id = '' AND at_us < $1 ORDER BY at_us LIMIT $2)",
	"DELETE FROM waiting_receipts WHERE event_id IN (SELECT event_id FROM waiting_receipts WHERE at_us < $1 ORDER BY at_us LIMIT $2)",
	`DELETE FROM external_refs WHERE (connection_id, external_id) IN (SELECT connection_id, external_id FROM external_refs
		WHERE message_id = '' AND at_us < $1 ORDER BY at_us LIMIT $2)`,
	// Of edits and profiles the newest stays: older ones can't come to count any more.
	`DELETE FROM edits WHERE event_id IN (SELECT old.event_id FROM edits old WHERE old.message_id <> '' AND old.at_us < $1
		AND EXISTS (SELECT 1 FROM edits new WHERE new.message_id = old.message_id
			AND (new.order_us > old.order_us OR (new.order_us = old.order_us AND new.event_id > old.event_id))) LIMIT $2)`,
	`DELETE FROM profiles WHERE (subject_id, event_id) IN (SELECT old.subject_id, old.event_id FROM profiles old WHERE old.order_us < $1
		AND EXISTS (SELECT 1 FROM profiles new WHERE new.subject_id = old.subject_id
			AND (new.order_us > old.order_us OR (new.order_us = old.order_us AND new.event_id > old.event_id))) LIMIT $2)`,
	// Attachments that nobody declared: their objects are deleted before their rows.
	`INSERT INTO object_deletions (object, at_us) SELECT object, at_us FROM attachments WHERE message_id = '' AND object <> '' AND at_us < $1
		ORDER BY at_us LIMIT $2 ON CONFLICT (object) DO NOTHING`,
	`DELETE FROM attachments WHERE id IN (SELECT id FROM attachments WHERE message_id = '' AND at_us < $1
		AND (object = '' OR object IN (SELECT object FROM object_deletions)) ORDER BY at_us LIMIT $2)`,
}

// Forget forgets what lies behind the horizon.
func (p *Projector) Forget(ctx context.Context) error {
	before := p.clock.NowMicros() - Horizon.Microseconds()
	var faults []error
	for _, statement := range forgets {
		for more := true; more && ctx.Err() == nil; {
			err := p.db.Tx(ctx, func(tx *sqldb.Tx) error {
				result, err := tx.ExecContext(ctx, statement, before, forgetBatch)
				if err != nil {
					return err
				}
				n, err := result.RowsAffected()
				more = n == forgetBatch
				return err
			})
			if err != nil {
				faults, more = append(faults, err), false
			}
		}
	}
	return errors.Join(faults...)
}

// observe counts what waits, by kind.
func (p *Projector) observe(ctx context.Context, tell func(kind string, n int64)) error {
	return p.db.View(ctx, func(tx *sqldb.Tx) error {
		for kind, query := range map[string]string{
			"edit":       "SELECT COUNT(*) FROM edits WHERE message_id = ''",
			"reaction":   "SELECT COUNT(*) FROM reactions WHERE message_id = ''",
			"attachment": "SELECT COUNT(*) FROM attachments WHERE message_id = ''",
			"receipt":    "SELECT COUNT(*) FROM waiting_receipts",
		} {
			var n int64
			if err := tx.QueryRowContext(ctx, query).Scan(&n); err != nil {
				return err
			}
			tell(kind, n)
		}
		return nil
	})
}
