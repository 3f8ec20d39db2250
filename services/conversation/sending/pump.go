package sending

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Pump lets leave what had to wait for more than the outcome before it: a slot of its connection, a
// time, the connection's return, or to be sealed anew. It runs until ctx ends.
func (s *Sending) Pump(ctx context.Context) error {
	return s.every(ctx, s.cfg.Poll, s.wake, s.PumpOnce)
}

// every calls f at once, when woken and each interval; faults are logged and waited out.
func (s *Sending) every(ctx context.Context, interval time.Duration, wake <-chan struct{}, f func(context.Context) error) error {
	//bound:exempt when to look next
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-wake:
		}
		if err := f(ctx); err != nil && ctx.Err() == nil {
			s.tel.Log.WarnContext(ctx, "sending is held up", "error", err)
		}
		timer.Reset(interval)
	}
}

// PumpOnce looks at everything that may leave now.
func (s *Sending) PumpOnce(ctx context.Context) error {
	if err := s.unpark(ctx); err != nil {
		return err
	}
	due, err := s.due(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, id := range due {
		if err := s.push(ctx, id); err != nil {
			faults = append(faults, err)
			if errors.Is(err, seal.ErrUnavailable) || ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(faults...)
}

// unpark frees the conversations of connections that are active again.
func (s *Sending) unpark(ctx context.Context) error {
	var parked []string
	if err := s.list(ctx, &parked, "SELECT DISTINCT connection_id FROM conversations WHERE parked = 1"); err != nil {
		return err
	}
	for _, connection := range parked {
		err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
			active, err := s.active(ctx, tx, connection)
			if err != nil || !active {
				return err
			}
			_, err = tx.ExecContext(ctx, "UPDATE conversations SET parked = 0 WHERE connection_id = $1 AND parked = 1", connection)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// due are the conversations whose next part may leave now, of each connection no more than it has slots.
func (s *Sending) due(ctx context.Context) ([]string, error) {
	const ready = "next_us > 0 AND out_message = '' AND parked = 0"
	var connections, due []string
	if err := s.list(ctx, &connections, "SELECT DISTINCT connection_id FROM conversations WHERE "+ready+" AND next_us <= $1", s.clock.NowMicros()); err != nil {
		return nil, err
	}
	for _, connection := range connections {
		var taken int
		err := s.db.View(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM conversations WHERE out_connection = $1 AND out_message <> ''", connection).Scan(&taken)
		})
		if err != nil {
			return nil, err
		}
		if free := s.cfg.PerConnection - taken; free > 0 {
			if err := s.list(ctx, &due, "SELECT id FROM conversations WHERE connection_id = $1 AND "+ready+
				" AND next_us <= $2 ORDER BY next_us, id LIMIT $3", connection, s.clock.NowMicros(), free); err != nil {
				return nil, err
			}
		}
	}
	return due, nil
}

// push lets the first part of a conversation leave if it may, sealing it anew where it must be.
func (s *Sending) push(ctx context.Context, conversation string) error {
	var first *part
	var workspace string
	err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) {
		if err := tx.QueryRowContext(ctx, "SELECT workspace_id FROM conversations WHERE id = $1", conversation).Scan(&workspace); err != nil {
			return err
		}
		first, err = s.first(ctx, tx, &store.Conversation{ID: conversation})
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if first != nil && first.Ciphertext == nil {
		if err := s.reseal(ctx, workspace, first); err != nil {
			return err
		}
	}
	return s.step(ctx, conversation, func(tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) {
		return nil, nil
	})
}

// reseal seals a new attempt's words: those of the attempt before, bound to this one. Where they open no
// more, the attempt fails.
func (s *Sending) reseal(ctx context.Context, workspace string, p *part) error {
	before := part{}
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT attempt, key_id, ciphertext FROM message_parts WHERE message_id = $1 AND part = $2
			AND attempt < $3 AND ciphertext IS NOT NULL ORDER BY attempt DESC LIMIT 1`, p.Message, p.Part, p.Attempt).
			Scan(&before.Attempt, &before.Key, &before.Ciphertext)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return s.refuse(ctx, p, "deleted")
	}
	if err != nil {
		return err
	}
	keys, faults, err := s.keys.Keys(ctx, workspace, pb.Purpose_PURPOSE_CONVERSATION, []string{before.Key})
	if err != nil {
		return err
	}
	key, ok := keys[before.Key]
	if !ok {
		code := "key_gone"
		if errors.Is(faults[before.Key], seal.ErrRestricted) {
			code = "restricted"
		}
		return s.refuse(ctx, p, code)
	}
	plain, err := seal.OpenWith(key, &pb.SealedPart{SubjectId: p.Subject, KeyId: before.Key, Category: pb.Category_CATEGORY_CONTENT,
		Ciphertext: before.Ciphertext}, seal.OriginCommand(p.Message, p.Part, before.Attempt))
	if err != nil {
		return s.refuse(ctx, p, "unreadable")
	}
	sealed, err := seal.Seal(key, pb.Category_CATEGORY_CONTENT, seal.OriginCommand(p.Message, p.Part, p.Attempt), plain)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE message_parts SET key_id = $4, ciphertext = $5
			WHERE message_id = $1 AND part = $2 AND attempt = $3 AND ciphertext IS NULL AND status = 1`,
			p.Message, p.Part, p.Attempt, sealed.KeyId, sealed.Ciphertext)
		return err
	})
}

// refuse fails a queued attempt that can't be sealed.
func (s *Sending) refuse(ctx context.Context, p *part, code string) error {
	return s.step(ctx, p.Conversation, func(tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) {
		return s.failQueued(ctx, tx, c, pb.ErrorClass_ERROR_CLASS_REJECT, code, func(q *part) bool { return q.attempt() == p.attempt() })
	})
}

// step runs f under the conversation's lock, and then lets the next part leave if it may.
func (s *Sending) step(ctx context.Context, conversation string, f func(tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error)) error {
	wrote := false
	err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		locked, err := store.LockConversations(ctx, tx, []string{conversation})
		c := locked[conversation]
		if err != nil || c == nil {
			return err
		}
		entries, err := f(tx, c)
		if err != nil {
			return err
		}
		commands, err := s.advance(ctx, tx, c)
		if err != nil {
			return err
		}
		entries = append(entries, commands...)
		wrote = len(entries) > 0
		return store.Append(ctx, tx, s.clock.NowMicros(), entries...)
	})
	if err == nil && wrote {
		s.committed()
	}
	return err
}

// list appends the one column of a query to into.
func (s *Sending) list(ctx context.Context, into *[]string, query string, args ...any) error {
	return s.db.Read(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, query, args, func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			*into = append(*into, id)
			return err
		})
	})
}
