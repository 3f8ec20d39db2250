// Package erase answers privacy commands for what this service holds: it closes a person's contact when
// it is frozen, tells what is stored, and deletes it. Deletion and answer are one transaction; it takes
// the subject's row first, so that a projection which writes for the same person either comes before, and
// is deleted, or after, and finds the person gone.
package erase

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// HolderName is how the service signs its answers; it must be the name it declares its holdings under.
const HolderName = "conversation"

// CommandsTopic is where the privacy service commands its holders.
const CommandsTopic = "privacy.commands"

// Bucket deletes attachments' objects; one that is not there is no error.
type Bucket interface {
	Delete(ctx context.Context, object string) error
}

// Evicter forgets plain keys (seal.Client).
type Evicter interface {
	Evict(subjectIDs ...string)
}

// Holder handles privacy commands. It is safe for concurrent use.
type Holder struct {
	db        *sqldb.DB
	bucket    Bucket
	keys      Evicter
	clock     *clock.Clock
	tel       *telemetry.Telemetry
	committed func()
	wake      chan struct{}
	answered  metric.Int64Counter
}

// New makes a holder. committed is called after each transaction that wrote to the outbox.
func New(db *sqldb.DB, bucket Bucket, keys Evicter, clk *clock.Clock, tel *telemetry.Telemetry, committed func()) (*Holder, error) {
	//bound:queue wake-ups of who deletes objects | {} | the next is dropped: one is enough
	h := &Holder{db: db, bucket: bucket, keys: keys, clock: clk, tel: tel, committed: committed, wake: make(chan struct{}, 1)}
	var err error
	if h.answered, err = tel.Meter.Int64Counter("tributary_privacy_commands",
		metric.WithDescription("Privacy commands answered, by kind.")); err != nil {
		return nil, fmt.Errorf("erase: %w", err)
	}
	return h, nil
}

// Subscription of the holder. Its group is the service's: one replica answers for all.
func (h *Holder) Subscription() bus.Subscription {
	return bus.Subscription{Group: "conversation-privacy", Topics: []string{CommandsTopic}, MaxBatch: 20, Handle: h.Handle}
}

// Handle answers commands, each in a transaction of its own. The same command again gets the same answer.
func (h *Holder) Handle(ctx context.Context, records []bus.Record) error {
	for _, r := range records {
		c := &pb.PrivacyCommand{}
		if err := proto.Unmarshal(r.Value, c); err != nil {
			return bus.DataFault("undecodable", errors.New("not a PrivacyCommand"))
		}
		if c.GetId() == "" || c.GetSubjectId() == "" && !asksForContact(c) {
			return bus.DataFault("incomplete", errors.New("privacy command without id or subject"))
		}
		trace := ""
		for _, header := range r.Headers {
			if header.Key == "traceparent" {
				trace = string(header.Value)
			}
		}
		if err := h.answer(ctx, c, trace); err != nil {
			if sqldb.IsDataFault(err) {
				return bus.DataFault("constraint", err)
			}
			return err
		}
		h.answered.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", c.GetKind().String())))
	}
	return nil
}

func (h *Holder) answer(ctx context.Context, c *pb.PrivacyCommand, trace string) error {
	if c.GetKind() == pb.PrivacyCommand_KIND_FREEZE || c.GetKind() == pb.PrivacyCommand_KIND_ERASE {
		h.keys.Evict(c.GetSubjectId())
	}
	err := h.db.Tx(ctx, func(tx *sqldb.Tx) error {
		now := h.clock.NowMicros()
		ack := &pb.PrivacyAck{CommandId: c.GetId(), RequestId: c.GetRequestId(), Holder: HolderName, SubjectId: c.GetSubjectId(),
			Kind: c.GetKind(), AtUs: now}
		var entries []store.Entry
		done, err := answeredBefore(ctx, tx, c.GetId(), ack)
		if err != nil {
			return err
		}
		switch {
		case asksForContact(c):
			ack.Found = map[string]int64{"contacts": 0}
			if ack.Found["contacts"], err = contacts(ctx, tx, c); err != nil {
				return err
			}
		case !done:
			e := &erasure{subject: c.GetSubjectId(), workspace: c.GetWorkspaceId(), contact: channel.ContactID(c.GetSubjectId())}
			e.begin(tx, now, ack)
			if entries, err = e.carryOut(ctx, c.GetKind()); err != nil {
				return err
			}
			if err := keepAnswer(ctx, tx, now, ack); err != nil {
				return err
			}
		}
		return store.Append(ctx, tx, now, append(entries, store.Entry{Topic: store.TopicAcks, Key: ack.RequestId, Type: "privacy.ack",
			Traceparent: trace, Workspace: c.GetWorkspaceId(), Payload: ack})...)
	})
	if err == nil {
		h.committed()
		h.Wake()
	}
	return err
}

// asksForContact: the question is whether there is a contact, whose subjects the asker does not know.
func asksForContact(c *pb.PrivacyCommand) bool {
	return c.GetKind() == pb.PrivacyCommand_KIND_COLLECT && c.GetSubjectId() == "" && c.GetContactId() != ""
}

func contacts(ctx context.Context, tx *sqldb.Tx, c *pb.PrivacyCommand) (n int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM contacts WHERE id = $1 AND workspace_id = $2", c.GetContactId(), c.GetWorkspaceId()).Scan(&n)
	return n, err
}

func answeredBefore(ctx context.Context, tx *sqldb.Tx, command string, ack *pb.PrivacyAck) (bool, error) {
	var raw []byte
	err := tx.QueryRowContext(ctx, "SELECT ack FROM privacy_commands WHERE id = $1", command).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	proto.Reset(ack)
	return true, proto.Unmarshal(raw, ack)
}

func keepAnswer(ctx context.Context, tx *sqldb.Tx, now int64, ack *pb.PrivacyAck) error {
	if ack.Kind == pb.PrivacyCommand_KIND_COLLECT {
		return nil // asked again it is counted again
	}
	raw, err := proto.Marshal(ack)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO privacy_commands (id, ack, at_us) VALUES ($1, $2, $3)", ack.CommandId, raw, now)
	return err
}

// Wake makes DeleteObjects look at once.
func (h *Holder) Wake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// DeleteObjects deletes from the bucket what transactions have noted, until ctx ends.
func (h *Holder) DeleteObjects(ctx context.Context) error {
	const pause = 5 * time.Second
	//bound:exempt when to look next
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-h.wake:
		}
		more, err := h.DeleteObjectsOnce(ctx)
		if err != nil && ctx.Err() == nil {
			h.tel.Log.WarnContext(ctx, "objects are not deleted yet", "error", err)
		}
		if more && err == nil {
			timer.Reset(0)
		} else {
			timer.Reset(pause)
		}
	}
}

// DeleteObjectsOnce deletes some, and tells whether more may be left. The row goes after the object.
func (h *Holder) DeleteObjectsOnce(ctx context.Context) (more bool, err error) {
	const some = 100
	var objects []string
	if err := h.db.View(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, "SELECT object FROM object_deletions ORDER BY at_us LIMIT $1", []any{some}, func(rows sqldb.Row) error {
			var object string
			err := rows.Scan(&object)
			objects = append(objects, object)
			return err
		})
	}); err != nil {
		return false, err
	}
	var faults []error
	var done []string
	for _, object := range objects {
		//bound:timeout deleting an object | {} | tried again later
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := h.bucket.Delete(call, object)
		cancel()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		done = append(done, object)
	}
	if len(done) > 0 {
		list, args := sqldb.In(1, done)
		faults = append(faults, h.db.Tx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM object_deletions WHERE object IN ("+list+")", args...)
			return err
		}))
	}
	return len(objects) == some, errors.Join(faults...)
}
