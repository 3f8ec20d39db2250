package erase

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// LedgerTopic names everybody who was ever erased, by subject. It lies outside every database, so that one
// restored from before an erasure can be told of it.
const LedgerTopic = "privacy.erasures"

// CacheMargin is what the ledger adds to the caches' time limit before it erases whom it names.
const CacheMargin = 15 * time.Second

// Ledger applies the erasure ledger once, at the start.
type Ledger struct {
	holder  *Holder
	bus     *bus.Bus
	wait    time.Duration
	applied chan struct{}
	once    sync.Once
}

// NewLedger makes the ledger's reader; Run applies it. wait is how long after a person was frozen nobody
// erases them yet: until no process holds a key of theirs.
func NewLedger(b *bus.Bus, h *Holder, wait time.Duration) *Ledger {
	return &Ledger{holder: h, bus: b, wait: wait, applied: make(chan struct{})}
}

// Run erases whomever the ledger names as it stands now and this database still has, and then waits for ctx
// to end. Who was frozen only just now is frozen here too, and erased when it is time: as a rule the command
// comes first. Later erasures come as commands.
func (l *Ledger) Run(ctx context.Context) error {
	entries, err := l.read(ctx)
	if err != nil {
		return err
	}
	now := l.holder.clock.NowMicros()
	var over, recent []*pb.Erasure
	var due time.Duration
	for _, e := range entries {
		if left := time.Duration(e.GetFrozenAtUs()-now)*time.Microsecond + l.wait; left > 0 && left <= l.wait {
			recent, due = append(recent, e), max(due, left)
		} else {
			over = append(over, e)
		}
	}
	if err := errors.Join(l.apply(ctx, over), l.holder.FreezeAgain(ctx, recent)); err != nil {
		return err
	}
	l.once.Do(func() { close(l.applied) })
	for len(recent) > 0 && pause(ctx, due) {
		if err := l.apply(ctx, recent); err == nil {
			break
		} else if ctx.Err() == nil {
			l.holder.tel.Log.WarnContext(ctx, "the erasure ledger is not applied yet", "error", err)
		}
		due = time.Second
	}
	<-ctx.Done()
	return nil
}

func (l *Ledger) apply(ctx context.Context, entries []*pb.Erasure) error {
	n, err := l.holder.ApplyLedger(ctx, entries)
	if n > 0 {
		l.holder.tel.Log.WarnContext(ctx, "erased who is in the erasure ledger and was still stored: the erasure was interrupted, or the database is from before it", "subjects", n)
	}
	return err
}

// pause tells whether d has passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	//bound:exempt as long as the caller says, and no longer than the context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// read gives the ledger as it stands; it waits for brokers that are away.
func (l *Ledger) read(ctx context.Context) ([]*pb.Erasure, error) {
	table := bus.NewTable(l.bus, bus.TableConfig[*pb.Erasure]{Topic: LedgerTopic, Decode: func(value []byte) (*pb.Erasure, error) {
		e := &pb.Erasure{}
		return e, proto.Unmarshal(value, e)
	}})
	reading, stop := context.WithCancel(ctx)
	//bound:exempt receives once
	ended := make(chan error, 1)
	//bound:exempt waited for below
	go func() {
		defer stop()
		ended <- table.Run(reading)
	}()
	err := table.WaitReady(reading)
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	var entries []*pb.Erasure
	for _, e := range table.All {
		entries = append(entries, e)
	}
	return entries, nil
}

// Ready tells whether the ledger has been applied.
func (l *Ledger) Ready() error {
	select {
	case <-l.applied:
		return nil
	default:
		return errors.New("the erasure ledger is not applied yet")
	}
}

// Before lets a handler wait until the ledger has been applied.
func (l *Ledger) Before(handle func(context.Context, []bus.Record) error) func(context.Context, []bus.Record) error {
	return func(ctx context.Context, records []bus.Record) error {
		select {
		case <-l.applied:
			return handle(ctx, records)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ApplyLedger erases the subjects of entries that are not gone yet, and tells how many those were. What was
// found is kept: should the command come after all, because the ledger was quicker, it is its answer.
func (h *Holder) ApplyLedger(ctx context.Context, entries []*pb.Erasure) (erased int, err error) {
	for _, chunk := range store.Chunks(entries) {
		gone, err := h.gone(ctx, chunk)
		if err != nil {
			return erased, err
		}
		for _, entry := range chunk {
			if entry.GetSubjectId() == "" || gone[entry.GetSubjectId()] {
				continue
			}
			did, err := h.eraseAgain(ctx, entry)
			if err != nil {
				return erased, err
			}
			if did {
				erased++
			}
		}
	}
	return erased, nil
}

// FreezeAgain freezes the subjects of entries that are not gone yet.
func (h *Holder) FreezeAgain(ctx context.Context, entries []*pb.Erasure) error {
	for _, chunk := range store.Chunks(entries) {
		gone, err := h.gone(ctx, chunk)
		if err != nil {
			return err
		}
		for _, entry := range chunk {
			if entry.GetSubjectId() == "" || gone[entry.GetSubjectId()] {
				continue
			}
			h.keys.Evict(entry.GetSubjectId())
			e := erasureOf(entry)
			if err := h.db.Tx(ctx, func(tx *sqldb.Tx) error {
				e.tx = tx
				if err := e.freeze(ctx); err != nil {
					return err
				}
				return store.Append(ctx, tx, h.clock.NowMicros(), e.closed())
			}); err != nil {
				return err
			}
			h.committed()
		}
	}
	return nil
}

func erasureOf(entry *pb.Erasure) *erasure {
	return &erasure{subject: entry.GetSubjectId(), workspace: entry.GetWorkspaceId(), contact: channel.ContactID(entry.GetSubjectId())}
}

func (h *Holder) gone(ctx context.Context, entries []*pb.Erasure) (map[string]bool, error) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.GetSubjectId()
	}
	gone := map[string]bool{}
	err := h.db.View(ctx, func(tx *sqldb.Tx) error {
		list, args := sqldb.In(1, ids)
		return sqldb.Query(ctx, tx, "SELECT id FROM subjects WHERE gone = 1 AND id IN ("+list+")", args, func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			gone[id] = true
			return err
		})
	})
	return gone, err
}

func (h *Holder) eraseAgain(ctx context.Context, entry *pb.Erasure) (did bool, err error) {
	h.keys.Evict(entry.GetSubjectId())
	e := erasureOf(entry)
	err = h.db.Tx(ctx, func(tx *sqldb.Tx) error {
		now := h.clock.NowMicros()
		e.begin(tx, now, &pb.PrivacyAck{CommandId: ledgerID(e.subject), RequestId: entry.GetRequestId(), Holder: HolderName,
			SubjectId: e.subject, Kind: pb.PrivacyCommand_KIND_ERASE, AtUs: now})
		if did, err = e.erase(ctx); err != nil || !did {
			return err
		}
		if err := keepAnswer(ctx, tx, now, e.ack); err != nil {
			return err
		}
		return store.Append(ctx, tx, now, e.closed())
	})
	if err == nil && did {
		h.committed()
		h.Wake()
	}
	return did, err
}

// addLedger adds to an answer what the ledger had erased before the command came.
func (e *erasure) addLedger(ctx context.Context) error {
	before := &pb.PrivacyAck{}
	found, err := answeredBefore(ctx, e.tx, ledgerID(e.subject), before)
	if err != nil || !found {
		return err
	}
	for what, n := range before.GetFound() {
		e.ack.Found[what] += n
	}
	for what, n := range before.GetDeleted() {
		e.ack.Deleted[what] += n
	}
	maps.Copy(e.ack.Kept, before.GetKept())
	return nil
}

// ledgerID stands for a command's id where the ledger commands.
func ledgerID(subject string) string { return "ledger/" + subject }
