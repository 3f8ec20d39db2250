package registry

import (
	"context"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
)

const (
	topicCommands  = "privacy.commands"
	topicErasures  = "privacy.erasures"
	topicSpoolKeys = "spoolkeys"

	effectLedger   = "ledger"
	effectSpoolKey = "spool_key"
)

// Topics that the registry alone writes. (privacy.commands has other writers too.)
func Topics() []bus.Topic {
	return []bus.Topic{
		{Name: topicErasures, Compacted: true},
		{Name: topicSpoolKeys, Compacted: true},
	}
}

// letter is a row of the outbox. Its effect is noted, for ref, once the broker has acknowledged it.
type letter struct {
	id, topic, key string
	value          []byte
	effect, ref    string
}

// post puts letters into the outbox; one that is there already stays.
func (r *Registry) post(ctx context.Context, tx *sqldb.Tx, letters ...letter) error {
	rows := make([][]any, len(letters))
	for i, l := range letters {
		rows[i] = []any{l.id, l.topic, l.key, l.value, l.effect, l.ref, r.now().UnixMicro()}
	}
	return sqldb.InsertRows(ctx, tx, "outbox", []string{"id", "topic", "key", "value", "effect", "ref", "made_us"}, rows, "ON CONFLICT (id) DO NOTHING", nil)
}

func (r *Registry) wakeRelay() {
	select {
	case r.relay <- struct{}{}:
	default:
	}
}

// runRelay publishes the outbox until ctx ends. Of several at work, each may publish a letter: all of them
// may be doubled. Who posts wakes it; by itself it looks for what another process has left behind.
func (r *Registry) runRelay(ctx context.Context) error {
	//bound:retry publishing the registry's outbox | every {} | goes on; no step of an erasure follows before
	const again = 500 * time.Millisecond
	const look = 5 * time.Second
	//bound:exempt when to look next
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.relay:
		}
		n, err := r.Relay(ctx)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				r.failed(ctx, "relay", err)
			}
			timer.Reset(again)
		case n > 0:
			timer.Reset(0)
		default:
			timer.Reset(look)
		}
	}
}

// Relay publishes what the outbox holds, oldest first and at most 200 letters, and tells how many.
func (r *Registry) Relay(ctx context.Context) (int, error) {
	var letters []letter
	err := r.db.View(ctx, func(tx *sqldb.Tx) error {
		letters = nil
		return sqldb.Query(ctx, tx, `SELECT id, topic, key, value, effect, ref FROM outbox ORDER BY made_us, id LIMIT 200`, nil, func(rows sqldb.Row) error {
			var l letter
			err := rows.Scan(&l.id, &l.topic, &l.key, &l.value, &l.effect, &l.ref)
			letters = append(letters, l)
			return err
		})
	})
	if err != nil || len(letters) == 0 {
		return 0, err
	}
	msgs := make([]bus.Message, len(letters))
	ids := make([]string, len(letters))
	for i, l := range letters {
		msgs[i] = bus.Message{Topic: l.topic, Key: l.key, Value: l.value}
		ids[i] = l.id
	}
	if err := r.bus.Publish(ctx, msgs...); err != nil {
		return 0, err
	}
	return len(letters), r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		now := r.now().UnixMicro()
		for _, l := range letters {
			switch l.effect {
			case effectLedger:
				if _, err := tx.ExecContext(ctx, `UPDATE subjects SET ledger_us = $1 WHERE id = $2 AND ledger_us = 0`, now, l.ref); err != nil {
					return err
				}
			case effectSpoolKey:
				if err := r.spoolKeyPublished(ctx, tx, l.ref, now); err != nil {
					return err
				}
			}
		}
		list, args := sqldb.In(1, ids)
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id IN (`+list+`)`, args...)
		return err
	})
}
