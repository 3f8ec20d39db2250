package registry

import (
	"context"
	"errors"
	"strconv"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// openSpool opens entry keys, in order. An entry whose spool key is destroyed, or that was not sealed to
// it, is lost; a key store that can't be reached fails the whole call.
func (r *Registry) openSpool(ctx context.Context, items []*pb.OpenSpoolRequest_Item) ([]*pb.OpenSpoolResponse_Item, error) {
	answers := make([]*pb.OpenSpoolResponse_Item, len(items))
	for i, item := range items {
		answers[i] = &pb.OpenSpoolResponse_Item{Lost: true}
		private, _, err := r.vault.get(ctx, spoolSecret(item.GetSpoolKeyId()))
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		key, err := seal.OpenSpoolKey(private, item.GetSpoolKeyId(), item.GetEnc(), item.GetSealedKey())
		if errors.Is(err, seal.ErrForged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		answers[i] = &pb.OpenSpoolResponse_Item{Key: key}
	}
	return answers, nil
}

// SpoolKeys are the public halves, newest first.
func (r *Registry) SpoolKeys(ctx context.Context) (keys []*pb.SpoolKey, err error) {
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		keys, err = spoolKeys(ctx, tx)
		return err
	})
	return keys, err
}

func spoolKeys(ctx context.Context, tx *sqldb.Tx) (keys []*pb.SpoolKey, err error) {
	err = sqldb.Query(ctx, tx, `SELECT id, public_key, not_before_us, destroyed_us FROM spool_keys ORDER BY number DESC`, nil, func(rows sqldb.Row) error {
		k := &pb.SpoolKey{}
		err := rows.Scan(&k.Id, &k.PublicKey, &k.NotBeforeUs, &k.DestroyedAtUs)
		keys = append(keys, k)
		return err
	})
	return keys, err
}

// keepSpoolKeys makes the key of the day when it is due, and destroys those whose time is over.
func (r *Registry) keepSpoolKeys(ctx context.Context) error {
	keys, err := r.SpoolKeys(ctx)
	if err != nil {
		return err
	}
	var number int64
	if err := r.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM spool_keys`).Scan(&number)
	}); err != nil {
		return err
	}
	now := r.now().UnixMicro()
	if len(keys) == 0 || now-keys[0].GetNotBeforeUs() >= r.cfg.SpoolKeyEvery.Microseconds() {
		if err := r.makeSpoolKey(ctx, number+1); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if k.GetDestroyedAtUs() != 0 && k.GetDestroyedAtUs() <= now {
			if err := r.endSpoolKey(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Registry) makeSpoolKey(ctx context.Context, number int64) error {
	private, public, err := seal.NewSpoolKey()
	if err != nil {
		return err
	}
	key := &pb.SpoolKey{Id: uuid.NewString(), PublicKey: public, NotBeforeUs: r.now().UnixMicro()}
	if err := r.createSecret(ctx, spoolSecret(key.GetId()), private); err != nil {
		return err
	}
	err = r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO spool_keys (id, number, public_key, not_before_us) VALUES ($1, $2, $3, $4) ON CONFLICT (number) DO NOTHING`,
			key.GetId(), number, public, key.GetNotBeforeUs())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err // another process made it: the secret stays doomed
		}
		if err := adopt(ctx, tx, spoolSecret(key.GetId())); err != nil {
			return err
		}
		return r.postSpoolKey(ctx, tx, key, effectSpoolKey)
	})
	r.wakeRelay()
	return err
}

// spoolKeyPublished lets the time of those before it run.
func (r *Registry) spoolKeyPublished(ctx context.Context, tx *sqldb.Tx, id string, now int64) error {
	done, err := tx.ExecContext(ctx, `UPDATE spool_keys SET published_us = $1 WHERE id = $2 AND published_us = 0`, now, id)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return err
	}
	keys, err := spoolKeys(ctx, tx)
	if err != nil {
		return err
	}
	older := false
	for _, k := range keys {
		if older && k.GetDestroyedAtUs() == 0 {
			k.DestroyedAtUs = now + r.cfg.SpoolKeyKept.Microseconds()
			if _, err := tx.ExecContext(ctx, `UPDATE spool_keys SET destroyed_us = $1 WHERE id = $2`, k.GetDestroyedAtUs(), k.GetId()); err != nil {
				return err
			}
			if err := r.postSpoolKey(ctx, tx, k, ""); err != nil {
				return err
			}
		}
		older = older || k.GetId() == id
	}
	return nil
}

func (r *Registry) endSpoolKey(ctx context.Context, k *pb.SpoolKey) error {
	err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM spool_keys WHERE id = $1`, k.GetId()); err != nil {
			return err
		}
		if err := doom(ctx, tx, spoolSecret(k.GetId()), false); err != nil {
			return err
		}
		// No value: the compacted topic forgets the key too.
		return r.post(ctx, tx, letter{id: "spool/" + k.GetId() + "/end", topic: topicSpoolKeys, key: k.GetId()})
	})
	r.wakeRelay()
	return err
}

func (r *Registry) postSpoolKey(ctx context.Context, tx *sqldb.Tx, k *pb.SpoolKey, effect string) error {
	value, err := proto.Marshal(k)
	if err != nil {
		return err
	}
	return r.post(ctx, tx, letter{
		id: "spool/" + k.GetId() + "/" + strconv.FormatInt(k.GetDestroyedAtUs(), 10), topic: topicSpoolKeys, key: k.GetId(),
		value: value, effect: effect, ref: k.GetId(),
	})
}
