package store

import (
	"cmp"
	"context"
	"slices"

	"tributary.dev/libs/sqldb"
)

// Subject is what is known of a subject whose row is locked.
type Subject struct {
	ID, Workspace, KeyID string
	Frozen               bool
}

// Met is the event that an identity came from: of all that name a subject the one with the smallest
// (OrderUS, Event), and one that brought a profile part before any that did not.
type Met struct {
	Named   bool
	OrderUS int64
	Event   string
}

// Before tells whether an identity is m's rather than o's.
func (m Met) Before(o Met) bool {
	if m.Named != o.Named {
		return m.Named
	}
	return cmp.Or(cmp.Compare(m.OrderUS, o.OrderUS), cmp.Compare(m.Event, o.Event)) < 0
}

// QueueMets has found called for each of the subjects that has an identity, once the transaction has sent that.
func QueueMets(ctx context.Context, tx *sqldb.Tx, subjects []string, found func(subject string, m Met)) error {
	for _, chunk := range Chunks(subjects) {
		list, args := sqldb.In(1, chunk)
		if err := tx.Queue(ctx, "SELECT subject_id, ciphertext IS NOT NULL, order_us, event_id FROM identities WHERE subject_id IN ("+list+")", args,
			func(row sqldb.Row) error {
				var subject string
				var m Met
				err := row.Scan(&subject, &m.Named, &m.OrderUS, &m.Event)
				found(subject, m)
				return err
			}); err != nil {
			return err
		}
	}
	return nil
}

// LockSubjects upserts the rows of subjects and locks them until the transaction ends; it must come
// first in every transaction that writes for a subject. Those that the answer misses are gone, and
// nothing may be written for them: an erasure that comes later waits, and then finds what was written.
func LockSubjects(ctx context.Context, tx *sqldb.Tx, subjects []Subject) (map[string]Subject, error) {
	alive, err := QueueSubjects(ctx, tx, subjects)
	if err != nil {
		return nil, err
	}
	return alive, tx.Send(ctx)
}

// QueueSubjects is LockSubjects, but what it gives is filled in only once the transaction has sent what it queues.
func QueueSubjects(ctx context.Context, tx *sqldb.Tx, subjects []Subject) (map[string]Subject, error) {
	folded := map[string]Subject{}
	for _, s := range subjects {
		if old, ok := folded[s.ID]; !ok || old.KeyID == "" {
			folded[s.ID] = s
		}
	}
	rows := make([][]any, 0, len(folded))
	for _, s := range folded {
		rows = append(rows, []any{s.ID, s.Workspace, s.KeyID})
	}
	SortRows(rows)
	alive := make(map[string]Subject, len(rows))
	err := sqldb.QueueRows(ctx, tx, "subjects", []string{"id", "workspace_id", "key_id"}, rows,
		`ON CONFLICT (id) DO UPDATE SET key_id = CASE WHEN excluded.key_id <> '' THEN excluded.key_id ELSE subjects.key_id END
		WHERE subjects.gone = 0 RETURNING id, workspace_id, key_id, frozen`,
		func(rows sqldb.Row) error {
			var s Subject
			var frozen int
			err := rows.Scan(&s.ID, &s.Workspace, &s.KeyID, &frozen)
			s.Frozen = frozen == 1
			alive[s.ID] = s
			return err
		})
	return alive, err
}

// SortRows sorts rows by their first column, and then their second where both are texts.
func SortRows(rows [][]any) {
	text := func(row []any, i int) string {
		if i < len(row) {
			s, _ := row[i].(string)
			return s
		}
		return ""
	}
	slices.SortFunc(rows, func(a, b []any) int {
		return cmp.Or(cmp.Compare(text(a, 0), text(b, 0)), cmp.Compare(text(a, 1), text(b, 1)))
	})
}

// OptedOut tells whether a subject has withdrawn consent to be written to on a connection: the newest
// opt-in or opt-out of the connection's own and the workspace-wide ones decides.
func OptedOut(ctx context.Context, tx *sqldb.Tx, subject, connection string) (bool, error) {
	if subject == "" {
		return false, nil
	}
	out := false
	if err := QueueOptedOut(ctx, tx, subject, connection, &out); err != nil {
		return false, err
	}
	return out, tx.Send(ctx)
}

// QueueOptedOut is OptedOut for who can wait for it: out becomes true where they have.
func QueueOptedOut(ctx context.Context, tx *sqldb.Tx, subject, connection string, out *bool) error {
	return tx.Queue(ctx, `SELECT action FROM consents WHERE subject_id = $1 AND action IN ('opt_in', 'opt_out')
		AND (workspace_wide = 1 OR connection_id = $2) ORDER BY order_us DESC, event_id DESC LIMIT 1`, []any{subject, connection},
		func(row sqldb.Row) error {
			var action string
			err := row.Scan(&action)
			*out = action == "opt_out"
			return err
		})
}
