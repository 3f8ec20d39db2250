package sending

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// sweepBatch bounds what one look takes on, so that a flood is worked off in pieces.
const sweepBatch = 500

// Sweep ends what will have no outcome any more, until ctx ends: it looks every ten polls.
func (s *Sending) Sweep(ctx context.Context) error {
	return s.every(ctx, 10*s.cfg.Poll, nil, s.SweepOnce)
}

// SweepOnce makes a part that is being sent unknown, once no adapter can call it any more; and after the
// expiry ends what has no outcome as unknown, and what is queued as failed.
func (s *Sending) SweepOnce(ctx context.Context) error {
	now := s.clock.NowMicros()
	var lost, expired []string
	// What no adapter has taken up waits for its expiry, however much there is of it.
	if err := s.list(ctx, &lost, `SELECT c.id FROM conversations c LEFT JOIN message_parts p
		ON p.message_id = c.out_message AND p.part = c.out_part AND p.attempt = c.out_attempt
		WHERE c.out_message <> '' AND c.out_us < $1 AND (p.status IS NULL OR p.status = 2) ORDER BY c.out_us LIMIT $2`,
		now-s.cfg.Late.Microseconds(), sweepBatch); err != nil {
		return err
	}
	if err := s.list(ctx, &expired, `SELECT DISTINCT conversation_id FROM (SELECT conversation_id FROM message_parts
		WHERE status < 3 AND deferred = 0 AND created_us <= $1 ORDER BY created_us LIMIT $2) AS old`, now-s.cfg.Expiry.Microseconds(), sweepBatch); err != nil {
		return err
	}
	var faults []error
	for _, id := range lost {
		faults = append(faults, s.step(ctx, id, func(tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) { return s.lose(ctx, tx, c) }))
	}
	for _, id := range expired {
		faults = append(faults, s.step(ctx, id, func(tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) {
			entries, err := s.lose(ctx, tx, c)
			if err != nil {
				return nil, err
			}
			ended, err := s.endOpen(ctx, tx, c, s.expire)
			return append(entries, ended...), err
		}))
	}
	return errors.Join(faults...)
}

// lose makes the outstanding part of a locked conversation unknown if its time is over: it was being
// sent, and nothing calls it later; or it expired.
func (s *Sending) lose(ctx context.Context, tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) {
	if c.Out.Message == "" {
		return nil, nil
	}
	parts, err := loadParts(ctx, tx, []string{c.Out.Message})
	if err != nil {
		return nil, err
	}
	p := parts[c.Out]
	if p == nil { // erased meanwhile
		c.Out, c.OutConnection, c.OutUS = store.Attempt{}, "", 0
		return nil, nil
	}
	if p.Status > pb.Status_STATUS_SENDING {
		return nil, nil
	}
	over := s.isExpired(p)
	if p.Status == pb.Status_STATUS_SENDING {
		position, err := s.position(ctx, tx, c, p)
		if err != nil {
			return nil, err
		}
		last := position + (s.cfg.Late + s.longestCall(c.Channel)).Microseconds()
		over = over || s.clock.NowMicros() > last
	}
	if !over {
		return nil, nil
	}
	return s.unknown(ctx, tx, c, p, parts)
}

func (s *Sending) unknown(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, p *part, parts partSet) ([]store.Entry, error) {
	p.raise(pb.Status_STATUS_UNKNOWN, s.clock.NowMicros(), "", 0, "")
	s.count(ctx, c.Channel, p)
	c.Out, c.OutConnection, c.OutUS = store.Attempt{}, "", 0
	s.Wake()
	return parts.save(ctx, tx)
}

// expire ends a part whose time is over. One that is being sent without being outstanding was reported by
// a replay, after a restore.
func (s *Sending) expire(p *part, now int64) {
	switch {
	case !s.isExpired(p):
	case p.Status == pb.Status_STATUS_SENDING:
		p.raise(pb.Status_STATUS_UNKNOWN, now, "", 0, "")
	default:
		p.raise(pb.Status_STATUS_FAILED, now, "", pb.ErrorClass_ERROR_CLASS_EXPIRED, "expired")
	}
}

func (s *Sending) isExpired(p *part) bool {
	return time.Duration(s.clock.NowMicros()-p.CreatedUS)*time.Microsecond >= s.cfg.Expiry
}

// position of the part's command: the time by which its adapter decides whether it is too late.
func (s *Sending) position(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, p *part) (int64, error) {
	var position sql.NullInt64
	err := tx.QueryRowContext(ctx, "SELECT position FROM outbox WHERE id = $1", channel.CommandID(p.Message, p.Part, p.Attempt)).Scan(&position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	return max(position.Int64, c.OutUS), nil
}

// EndOutstanding ends every outstanding part as unknown. A service restored from a backup does this
// before it starts: what its commands became happened after the backup.
func (s *Sending) EndOutstanding(ctx context.Context) (int, error) {
	ended := 0
	for {
		var outstanding []string
		if err := s.list(ctx, &outstanding, "SELECT id FROM conversations WHERE out_message <> '' ORDER BY id LIMIT $1", sweepBatch); err != nil {
			return ended, err
		}
		if len(outstanding) == 0 {
			return ended, nil
		}
		for _, id := range outstanding {
			err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
				locked, err := store.LockConversations(ctx, tx, []string{id})
				c := locked[id]
				if err != nil || c == nil || c.Out.Message == "" {
					return err
				}
				parts, err := loadParts(ctx, tx, []string{c.Out.Message})
				if err != nil {
					return err
				}
				var entries []store.Entry
				if p := parts[c.Out]; p != nil {
					if entries, err = s.unknown(ctx, tx, c, p, parts); err != nil {
						return err
					}
				}
				c.Out, c.OutConnection, c.OutUS, c.NextUS = store.Attempt{}, "", 0, 1
				if err := c.QueueSending(ctx, tx); err != nil {
					return err
				}
				return store.Append(ctx, tx, s.clock.NowMicros(), entries...)
			})
			if err != nil {
				return ended, err
			}
			ended++
		}
	}
}
