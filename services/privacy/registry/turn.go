package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"tributary.dev/libs/sqldb"
)

// The steps of a turn. Each is kept before the next begins and may be done again, so that a turn that was
// killed is resumed.
const (
	stepSecret  = "secret"  // the new epoch's secret is in the key store
	stepCurrent = "current" // the new epoch is current, the other old
	stepWrap    = "wrap"    // some, in the end all, are wrapped anew
	stepDrop    = "drop"    // the old epoch's row is gone, its secret noted to be destroyed
	stepBackup  = "backup"  // the registry is backed up, and the backup was read back
	stepDestroy = "destroy" // the old secret is destroyed
)

// wrapBatch is how many subjects one transaction wraps anew.
const wrapBatch = 200

// Turn begins a new epoch and ends the one before: when it returns nil, a dump of the database from before
// it opens nothing. A turn that is under way is finished first.
func (r *Registry) Turn(ctx context.Context) error {
	if err := r.ResumeTurn(ctx); err != nil {
		return err
	}
	r.turning.Lock()
	defer r.turning.Unlock()
	if err := r.beginEpoch(ctx); err != nil {
		return fmt.Errorf("begin an epoch: %w", err)
	}
	return r.finishTurn(ctx)
}

// ResumeTurn finishes a turn that was begun, if there is one.
func (r *Registry) ResumeTurn(ctx context.Context) error {
	r.turning.Lock()
	defer r.turning.Unlock()
	return r.finishTurn(ctx)
}

// BackupsUnreadableFrom is when the next turn that begins after now will have ended: from then on no
// backup opens what was destroyed before now. A turn that is under way does not count.
func (r *Registry) BackupsUnreadableFrom(ctx context.Context) (time.Time, error) {
	begun, err := r.currentBegun(ctx)
	if err != nil {
		return time.Time{}, err
	}
	due, now := begun.Add(r.cfg.EpochEvery), r.now()
	if due.Before(now) {
		due = now // overdue: upkeep begins it
	}
	return due.Add(r.cfg.TurnWithin).UTC(), nil
}

func (r *Registry) currentBegun(ctx context.Context) (time.Time, error) {
	var us int64
	err := r.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT begun_us FROM epochs WHERE role = $1`, roleCurrent).Scan(&us)
	})
	return time.UnixMicro(us), err
}

// turnWhenDue turns the epoch when its time is over.
func (r *Registry) turnWhenDue(ctx context.Context) error {
	if err := r.ResumeTurn(ctx); err != nil {
		return err
	}
	begun, err := r.currentBegun(ctx)
	if err != nil {
		return err
	}
	r.meters.epochAge(ctx, r.now().Sub(begun))
	if r.now().Sub(begun) < r.cfg.EpochEvery {
		return nil
	}
	return r.Turn(ctx)
}

func (r *Registry) beginEpoch(ctx context.Context) error {
	id := uuid.NewString()
	if err := r.createSecret(ctx, epochSecret(id), newSecret()); err != nil {
		return err
	}
	if err := r.killed(stepSecret); err != nil {
		return err
	}
	err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		if err := adopt(ctx, tx, epochSecret(id)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE epochs SET role = $1 WHERE role = $2`, roleOld, roleCurrent); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO epochs (id, role, begun_us) VALUES ($1, $2, $3)`, id, roleCurrent, r.now().UnixMicro())
		return err
	})
	if sqldb.IsUnique(err) {
		return nil // another process has begun a turn: finish that
	}
	if err != nil {
		return err
	}
	return r.killed(stepCurrent)
}

func (r *Registry) finishTurn(ctx context.Context) error {
	for {
		if err := r.wrapAnew(ctx); err != nil {
			return fmt.Errorf("wrap anew: %w", err)
		}
		err := r.dropOldEpoch(ctx)
		if err == nil {
			break
		}
		// An Acquire that was in flight has made a subject under the old epoch: wrap that too.
		if !sqldb.IsForeignKey(err) || ctx.Err() != nil {
			return fmt.Errorf("drop the old epoch: %w", err)
		}
	}
	if err := r.killed(stepDrop); err != nil {
		return err
	}
	waiting, err := r.doomed(ctx, 1)
	if err != nil || len(waiting) == 0 {
		return err
	}
	if _, err := r.Backup(ctx); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := r.killed(stepBackup); err != nil {
		return err
	}
	if err := r.destroyDoomed(ctx, waiting); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "epoch turned")
	return r.killed(stepDestroy)
}

// wrapAnew wraps under the current epoch whatever is still under the old one, in batches.
func (r *Registry) wrapAnew(ctx context.Context) error {
	after := ""
	for {
		var e epochs
		var batch []subject
		err := r.db.View(ctx, func(tx *sqldb.Tx) (err error) {
			batch = nil
			if e, err = r.readEpochs(ctx, tx); err != nil || e.old == nil {
				return err
			}
			return sqldb.Query(ctx, tx, `SELECT `+subjectColumns+` FROM subjects s WHERE s.epoch_id = $1 AND s.id > $2 ORDER BY s.id LIMIT $3`,
				[]any{e.old.id, after, wrapBatch}, func(rows sqldb.Row) error {
					var s subject
					err := s.scan(rows)
					batch = append(batch, s)
					return err
				})
		})
		if errors.Is(err, errEpochMoved) {
			return nil // finished by another process
		}
		if err != nil {
			return err
		}
		if len(batch) == 0 && after == "" {
			return nil
		}
		if len(batch) == 0 { // those made behind us
			after = ""
			continue
		}
		after = batch[len(batch)-1].id
		if err := r.wrapSubjects(ctx, e, batch); err != nil {
			return err
		}
		if err := r.killed(stepWrap); err != nil {
			return err
		}
	}
}

// wrapSubjects replaces only the wrappings that were read: a key that was destroyed meanwhile stays so.
func (r *Registry) wrapSubjects(ctx context.Context, e epochs, batch []subject) error {
	type wrapping struct {
		subject
		anew []byte
		hash []byte // under the current pepper; nil when the identity is detached
	}
	work := make([]wrapping, len(batch))
	for i, s := range batch {
		key, err := s.key(e)
		if err != nil {
			return fmt.Errorf("subject %s: %w", s.id, err)
		}
		work[i] = wrapping{subject: s, anew: e.current.keys.wrapKey(s.workspace, s.id, key)}
		if s.identity != nil {
			who, err := openIdentity(key, s.id, s.workspace, s.kind, s.identity)
			if err != nil {
				return fmt.Errorf("subject %s: identity: %w", s.id, err)
			}
			h := e.current.keys.hash(who)
			work[i].hash = h[:]
		}
	}
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var lookups [][]any
		for _, w := range work {
			if err := tx.Queue(ctx, `UPDATE subjects SET wrapped_key = $1, epoch_id = $2 WHERE id = $3 AND wrapped_key = $4 RETURNING state`,
				[]any{w.anew, e.current.id, w.id, w.wrapped}, func(row sqldb.Row) error {
					var state int64
					err := row.Scan(&state)
					// The row is locked now: whoever freezes it next takes this look-up away too.
					if w.hash != nil && (state == int64(active) || state == int64(restricted)) {
						lookups = append(lookups, []any{w.hash, w.id, e.current.id})
					}
					return err
				}); err != nil {
				return err
			}
		}
		if err := tx.Send(ctx); err != nil {
			return err
		}
		return sqldb.InsertRows(ctx, tx, "lookups", []string{"hash", "subject_id", "epoch_id"}, lookups, "ON CONFLICT (hash) DO NOTHING", nil)
	})
}

// dropOldEpoch deletes the old epoch's row, which fails while anything refers to it. From here on look-up
// goes by the new pepper.
func (r *Registry) dropOldEpoch(ctx context.Context) error {
	err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var id string
		err := tx.QueryRowContext(ctx, `DELETE FROM epochs WHERE role = $1 RETURNING id`, roleOld).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return doom(ctx, tx, epochSecret(id), true)
	})
	if err != nil {
		return err
	}
	return r.dropOldLookups(ctx)
}

// dropOldLookups deletes hashes of epochs that are over: nobody looks by them any more.
func (r *Registry) dropOldLookups(ctx context.Context) error {
	const batch = 2000
	for {
		var n int64
		err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
			done, err := tx.ExecContext(ctx, `DELETE FROM lookups WHERE hash IN (
				SELECT hash FROM lookups WHERE epoch_id NOT IN (SELECT id FROM epochs) LIMIT $1)`, batch)
			if err != nil {
				return err
			}
			n, err = done.RowsAffected()
			return err
		})
		if err != nil || n < batch {
			return err
		}
	}
}
