package registry

import (
	"context"

	"tributary.dev/libs/sqldb"
)

// sweepBatch is how many subjects holders are asked for at once.
const sweepBatch = 500

// Sweep destroys subjects that nobody acquired for SweepAfter and no holder stores anything for: what an
// old webhook, sent again, has made of somebody who was erased. It tells how many.
func (r *Registry) Sweep(ctx context.Context) (swept int, err error) {
	if r.holders == nil {
		return 0, nil
	}
	for ctx.Err() == nil {
		now := r.now()
		unused := now.Add(-r.cfg.SweepAfter - r.cfg.noted()).UnixMicro()
		asked := now.Add(-r.cfg.SweepAfter).UnixMicro()
		candidates, err := r.unused(ctx, unused, asked)
		if err != nil || len(candidates) == 0 {
			return swept, err
		}
		nothing, err := r.holders.StoresNothing(ctx, candidates)
		if err != nil {
			return swept, err
		}
		n, err := r.destroyUnused(ctx, candidates, nothing, unused, now.UnixMicro())
		if err != nil {
			return swept, err
		}
		swept += n
		r.meters.sweptAway(ctx, n)
	}
	return swept, ctx.Err()
}

// unused are active subjects that nobody acquired since unused and no holder was asked about since asked.
func (r *Registry) unused(ctx context.Context, unused, asked int64) (ids []string, err error) {
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		ids = nil
		return sqldb.Query(ctx, tx, `SELECT id FROM subjects WHERE state = $1 AND checked_us <= $2 AND acquired_us <= $3 ORDER BY checked_us, id LIMIT $4`,
			[]any{int64(active), asked, unused, sweepBatch}, func(rows sqldb.Row) error {
				var id string
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			})
	})
	return ids, err
}

// destroyUnused destroys those for which nothing is stored, unless they were acquired while holders were
// asked, and notes that the others were asked about.
func (r *Registry) destroyUnused(ctx context.Context, candidates, nothing []string, unused, now int64) (n int, err error) {
	err = r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		n = 0
		list, args := sqldb.In(5, nothing)
		var gone []string
		err := sqldb.Query(ctx, tx, `UPDATE subjects SET state = $1, wrapped_key = NULL, identity = NULL, epoch_id = NULL, destroyed_us = $2
			WHERE state = $3 AND acquired_us <= $4 AND id IN (`+list+`) RETURNING id`,
			append([]any{int64(destroyed), now, int64(active), unused}, args...), func(rows sqldb.Row) error {
				var id string
				err := rows.Scan(&id)
				gone = append(gone, id)
				return err
			})
		if err != nil {
			return err
		}
		n = len(gone)
		list, args = sqldb.In(1, gone)
		if _, err := tx.ExecContext(ctx, `DELETE FROM lookups WHERE subject_id IN (`+list+`)`, args...); err != nil {
			return err
		}
		list, args = sqldb.In(2, candidates)
		_, err = tx.ExecContext(ctx, `UPDATE subjects SET checked_us = $1 WHERE id IN (`+list+`)`, append([]any{now}, args...)...)
		return err
	})
	return n, err
}
