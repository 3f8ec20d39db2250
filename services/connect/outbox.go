package connect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
)

// entry names a record on a compacted topic.
type entry struct{ topic, key string }

func keyEntry(id string) entry            { return entry{access.Topic().Name, id} }
func appEntry(channel, name string) entry { return entry{accounts.AppsTopic, channel + "/" + name} }
func connectionEntry(id string) entry     { return entry{accounts.ConnectionsTopic, id} }
func (e entry) split() (a, b string)      { a, b, _ = strings.Cut(e.key, "/"); return a, b }

// mark notes in the transaction of a change that the entry must be published.
func mark(ctx context.Context, tx *sqldb.Tx, e entry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO outbox (topic, key, mark) VALUES ($1, $2, $3)
		ON CONFLICT (topic, key) DO UPDATE SET mark = excluded.mark`, e.topic, e.key, uuid.NewString())
	return err
}

// relay publishes marked entries as they are when their turn comes, so that changes of one entry need no
// order among them. Two replicas may publish the same entry at once, and the older state may come last:
// who then finds its mark gone marks the entry again, and the reconciler finds what even that misses.
type relay struct {
	db    *sqldb.DB
	bus   *bus.Bus
	clock *clock.Clock
	log   *slog.Logger
	// turn is held by the one of this process that publishes.
	turn chan struct{}
	// told: what was marked when the process started is published, the owner's first key among it.
	told atomic.Bool
}

const (
	//bound:queue marked entries that are published at once | {} | the others wait in the database
	relayBatch = 200
	// relayEvery is for what could not be published before its request was answered.
	relayEvery    = 5 * time.Second
	publishedWait = 2 * time.Second
	relayTimeout  = 15 * time.Second
)

func newRelay(db *sqldb.DB, b *bus.Bus, c *clock.Clock, log *slog.Logger) *relay {
	//bound:limit who publishes what was marked, in a process | {} | the others wait
	return &relay{db: db, bus: b, clock: c, log: log, turn: make(chan struct{}, 1)}
}

// run publishes what was marked, for as long as ctx lasts.
func (r *relay) run(ctx context.Context) error {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		n, err := r.publishMarked(ctx)
		if err != nil {
			return err
		}
		if n == relayBatch {
			continue
		}
		r.told.Store(true)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ready: other services know what is in the database, so that the first key opens the first call.
func (r *relay) ready() error {
	if !r.told.Load() {
		return errors.New("accounts and keys are not published yet")
	}
	return nil
}

// flush publishes what a request has changed before the request is answered. Where that takes too long
// the change stays marked and run publishes it.
func (r *relay) flush(ctx context.Context) {
	//bound:timeout publishing a change before it is answered | {} | answered; published by the job
	ctx, cancel := context.WithTimeout(ctx, publishedWait)
	defer cancel()
	if _, err := r.publishMarked(ctx); err != nil {
		r.log.WarnContext(ctx, "answered before the change was published", "error", err)
	}
}

// marked is an entry of the outbox with the record it stands for; nil where the entry is to go.
type marked struct {
	entry
	mark  string
	value []byte
}

func (r *relay) publishMarked(ctx context.Context) (n int, err error) {
	//bound:timeout publishing what was marked | {} | tried again within {relayEvery}
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	var batch []marked
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		batch, err = readMarked(ctx, tx)
		return err
	})
	if err != nil || len(batch) == 0 {
		return 0, err
	}
	msgs := make([]bus.Message, len(batch))
	for i, m := range batch {
		id := uuid.NewString()
		msgs[i] = bus.Message{
			Topic: m.topic, Key: m.key, Value: m.value,
			Headers: telemetry.EventHeaders(telemetry.Inject(ctx, nil), id, "tributary."+m.topic, "tributary/connect", r.clock.NowMicros()),
		}
	}
	if err := r.bus.Publish(ctx, msgs...); err != nil {
		return 0, err
	}
	// The entries were published whatever becomes of the request.
	ctx = context.WithoutCancel(ctx)
	return len(batch), r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for _, m := range batch {
			if err := unmark(ctx, tx, m); err != nil {
				return err
			}
		}
		return nil
	})
}

func readMarked(ctx context.Context, tx *sqldb.Tx) (batch []marked, err error) {
	err = sqldb.Query(ctx, tx, `SELECT topic, key, mark FROM outbox ORDER BY topic, key LIMIT $1`, []any{relayBatch}, func(rows sqldb.Row) error {
		var m marked
		err := rows.Scan(&m.topic, &m.key, &m.mark)
		batch = append(batch, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range batch {
		if batch[i].value, err = current(ctx, tx, batch[i].entry); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// unmark takes the mark that was read; where it is another's by now, or gone, the entry is marked.
func unmark(ctx context.Context, tx *sqldb.Tx, m marked) error {
	taken, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE topic = $1 AND key = $2 AND mark = $3`, m.topic, m.key, m.mark)
	if err != nil {
		return err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 1 {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO outbox (topic, key, mark) VALUES ($1, $2, $3) ON CONFLICT (topic, key) DO NOTHING`,
		m.topic, m.key, uuid.NewString())
	return err
}

// current is an entry's record, or nil where there is none.
func current(ctx context.Context, tx *sqldb.Tx, e entry) ([]byte, error) {
	var record proto.Message
	var err error
	switch e.topic {
	case access.Topic().Name:
		record, err = readAccessKey(ctx, tx, e.key)
	case accounts.AppsTopic:
		record, err = readAppRecord(ctx, tx, e)
	case accounts.ConnectionsTopic:
		record, err = readConnectionRecord(ctx, tx, e.key)
	default:
		return nil, fmt.Errorf("connect: the outbox names the unknown topic %s", e.topic)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(record)
}
