package store

import (
	"context"

	"tributary.dev/libs/sqldb"
)

// RefKey is what a provider calls a message, on one connection.
type RefKey struct{ Connection, External string }

// Ref is a row of external_refs.
type Ref struct {
	RefKey
	// Message is empty while it is awaited.
	Message string
	// Part and Attempt of our own message that became this; Attempt is 0 for others.
	Part, Attempt int32
	// DeletedUS is the smallest order of its deletions, or 0.
	DeletedUS int64
	// New: nobody had named it before.
	New bool
}

// QueueRefs upserts and locks references, and gives them as they stand once the transaction has sent that. A reference without a message
// takes the one given; one of our own attempts takes it from any other, since then an echo of ours had
// been mistaken for somebody's.
func QueueRefs(ctx context.Context, tx *sqldb.Tx, nowUS int64, refs map[RefKey]Ref) (map[RefKey]Ref, error) {
	rows := make([][]any, 0, len(refs))
	for key, r := range refs {
		rows = append(rows, []any{key.Connection, key.External, r.Message, r.Part, r.Attempt, r.DeletedUS, nowUS})
	}
	SortRows(rows)
	locked := make(map[RefKey]Ref, len(refs))
	const takes = `external_refs.message_id = '' OR (excluded.attempt > 0 AND external_refs.attempt = 0)`
	err := sqldb.QueueRows(ctx, tx, "external_refs", []string{"connection_id", "external_id", "message_id", "part", "attempt", "deleted_us", "at_us"}, rows,
		`ON CONFLICT (connection_id, external_id) DO UPDATE SET
		message_id = CASE WHEN `+takes+` THEN excluded.message_id ELSE external_refs.message_id END,
		part = CASE WHEN `+takes+` THEN excluded.part ELSE external_refs.part END,
		attempt = CASE WHEN `+takes+` THEN excluded.attempt ELSE external_refs.attempt END,
		deleted_us = CASE WHEN excluded.deleted_us > 0 AND (external_refs.deleted_us = 0 OR excluded.deleted_us < external_refs.deleted_us)
			THEN excluded.deleted_us ELSE external_refs.deleted_us END,
		touched = 1
		RETURNING connection_id, external_id, message_id, part, attempt, deleted_us, touched`,
		func(rows sqldb.Row) error {
			r, err := scanRef(rows)
			locked[r.RefKey] = r
			return err
		})
	return locked, err
}

// Refs reads references without locking them.
func Refs(ctx context.Context, tx *sqldb.Tx, keys []RefKey) (map[RefKey]Ref, error) {
	found := map[RefKey]Ref{}
	byConnection := map[string][]string{}
	for _, k := range keys {
		byConnection[k.Connection] = append(byConnection[k.Connection], k.External)
	}
	for connection, externals := range byConnection {
		for _, chunk := range Chunks(externals) {
			list, args := sqldb.In(2, chunk)
			err := sqldb.Query(ctx, tx, `SELECT connection_id, external_id, message_id, part, attempt, deleted_us, 1 FROM external_refs
				WHERE connection_id = $1 AND external_id IN (`+list+`)`, append([]any{connection}, args...), func(rows sqldb.Row) error {
				r, err := scanRef(rows)
				found[r.RefKey] = r
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func scanRef(rows sqldb.Row) (Ref, error) {
	var r Ref
	var touched int
	err := rows.Scan(&r.Connection, &r.External, &r.Message, &r.Part, &r.Attempt, &r.DeletedUS, &touched)
	r.New = touched == 0
	return r, err
}
