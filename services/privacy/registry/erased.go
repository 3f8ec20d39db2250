package registry

import (
	"context"

	"github.com/google/uuid"

	"tributary.dev/libs/sqldb"
)

// erasedList lists identities that were erased, by their hashes under its own pepper.
type erasedList struct {
	id    string
	begun int64
	keys  *secretKeys
}

// readErasedLists reads the lists, newest first. One whose secret is gone is left out: nobody can be found
// on it any more.
func (r *Registry) readErasedLists(ctx context.Context, tx *sqldb.Tx) ([]erasedList, error) {
	var lists, usable []erasedList
	err := sqldb.Query(ctx, tx, `SELECT id, begun_us FROM erased_lists ORDER BY number DESC`, nil, func(rows sqldb.Row) error {
		var l erasedList
		err := rows.Scan(&l.id, &l.begun)
		lists = append(lists, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		_, l.keys, err = r.vault.get(ctx, erasedSecret(l.id))
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		usable = append(usable, l)
	}
	return usable, nil
}

// erasedAt is when the identities of acts whose time is known were last erased.
func (r *Registry) erasedAt(ctx context.Context, tx *sqldb.Tx, acts []act) (map[identity]int64, error) {
	dated := map[identity]bool{}
	for _, a := range acts {
		if a.at != 0 {
			dated[a.identity] = true
		}
	}
	if len(dated) == 0 {
		return nil, nil
	}
	lists, err := r.readErasedLists(ctx, tx)
	if err != nil {
		return nil, err
	}
	at := map[identity]int64{}
	for _, l := range lists {
		whose := make(map[hash]identity, len(dated))
		values := make([][]byte, 0, len(dated))
		for id := range dated {
			h := l.keys.hash(id)
			whose[h] = id
			values = append(values, h[:])
		}
		list, args := sqldb.In(1, values)
		err := sqldb.Query(ctx, tx, `SELECT hash, erased_us FROM erased WHERE hash IN (`+list+`)`, args, func(rows sqldb.Row) error {
			var h []byte
			var us int64
			if err := rows.Scan(&h, &us); err != nil {
				return err
			}
			id := whose[hash(h)]
			at[id] = max(at[id], us)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return at, nil
}

// keepErasedLists begins a new list when the newest has been written to long enough, and destroys those
// beyond the ones kept, with their peppers.
func (r *Registry) keepErasedLists(ctx context.Context) error {
	var number, begun int64
	err := r.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0), COALESCE(MAX(begun_us), 0) FROM erased_lists`).Scan(&number, &begun)
	})
	if err != nil {
		return err
	}
	if number == 0 || r.now().UnixMicro()-begun >= r.cfg.ErasedListEvery.Microseconds() {
		if err := r.beginErasedList(ctx, number+1); err != nil {
			return err
		}
	}
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var ended []string
		err := sqldb.Query(ctx, tx, `SELECT id FROM erased_lists ORDER BY number DESC LIMIT 1000 OFFSET $1`, []any{erasedLists}, func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			ended = append(ended, id)
			return err
		})
		if err != nil {
			return err
		}
		for _, id := range ended {
			if _, err := tx.ExecContext(ctx, `DELETE FROM erased WHERE list_id = $1`, id); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM erased_lists WHERE id = $1`, id); err != nil {
				return err
			}
			if err := doom(ctx, tx, erasedSecret(id), false); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Registry) beginErasedList(ctx context.Context, number int64) error {
	id := uuid.NewString()
	if err := r.createSecret(ctx, erasedSecret(id), newSecret()); err != nil {
		return err
	}
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO erased_lists (id, number, begun_us) VALUES ($1, $2, $3) ON CONFLICT (number) DO NOTHING`,
			id, number, r.now().UnixMicro())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err // another process began it: the secret stays doomed
		}
		return adopt(ctx, tx, erasedSecret(id))
	})
}
