// Package relay carries the outbox to the topics. One process at a time holds its lease. It gives every
// row a position that rises for ever, in a transaction that the lease's token guards (one of its own, or that which
// wrote the row, where nobody else gives any at that moment and no row waits), and only
// then publishes: a row keeps its position, however often it is published. Of a partition one batch is on
// its way at a time, and nothing overtakes what is not acknowledged.
package relay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
)

// Retention is how long published rows are kept, for the live stream to resume from.
//
//bound:cache published rows of the outbox, in the database | {} | deleted; a client that resumes from before gets a reset
const Retention = 7 * 24 * time.Hour

// publishTime bounds one call of the broker; it and the database's own time-outs end well before a lease.
const publishTime = 4 * time.Second

// gatherTime lies between two looks at what is to be published: a look costs a dozen statements and calls, of one
// row as of a hundred. The live stream does not wait for it.
//
//bound:retry publishing the outbox, however often there is something | {} apart | it is published together
const gatherTime = 50 * time.Millisecond

// Publisher is what the relay needs of the bus.
type Publisher interface {
	PartitionFor(ctx context.Context, topic, key string) (int, error)
	PublishPartitions(ctx context.Context, topic string, msgs map[int][]bus.Message) (failed map[int]error)
}

// Relay is one process's candidate for the lease.
type Relay struct {
	db     *sqldb.DB
	bus    Publisher
	clock  *clock.Clock
	tel    *telemetry.Telemetry
	placed func(Page)
	poll   time.Duration
	token  string
	// owner names this process and the one that it succeeds; held: this one has had the lease, and succeeds
	// nobody any more; seen is another's lease. Guarded by leasing.
	leasing sync.Mutex
	owner   string
	held    bool
	seen    sighting
	// renewed is when this process last had the lease, by its own watch; nil: it has it no more.
	renewed atomic.Pointer[time.Time]
	// partly is, by topic and row, which entries are acknowledged of rows that are not wholly. No more than one
	// look at a topic holds.
	//
	//bound:limit rows of the outbox that are published in part | those of one look at each topic | the rest of the topic waits in the database
	partly map[string]map[string][]bool
	// wake: there is something to place; ready: there is something to publish.
	wake, ready chan struct{}

	published metric.Int64Counter
	metrics   metric.Registration
}

// New makes a relay. owner is the same for a process and the one that is started in its place after it was
// killed (its host and data folder), which need not wait for the lease of the dead to end; "" where there is
// no such name. placed is called after rows have got positions: the live stream may read them.
func New(db *sqldb.DB, b Publisher, clk *clock.Clock, tel *telemetry.Telemetry, poll time.Duration, owner string, placed func(Page)) (*Relay, error) {
	if poll == 0 {
		poll = time.Second
	}
	r := &Relay{db: db, bus: b, clock: clk, tel: tel, placed: placed, poll: poll, owner: owner, token: uuid.NewString(),
		partly: map[string]map[string][]bool{},
		//bound:queue wake-ups of the relay | {} | the next is dropped: one is enough
		wake: make(chan struct{}, 1),
		//bound:queue wake-ups of who publishes the outbox | {} | the next is dropped: one is enough
		ready: make(chan struct{}, 1)}
	var err error
	if r.published, err = tel.Meter.Int64Counter("tributary_outbox_published",
		metric.WithDescription("Entries of the outbox that the broker has acknowledged.")); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	age, err := tel.Meter.Float64ObservableGauge("tributary_outbox_age_seconds",
		metric.WithDescription("How long the oldest row of the outbox has waited to be published."))
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r.metrics, err = tel.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		waited, err := r.age(ctx)
		if err == nil {
			o.ObserveFloat64(age, waited.Seconds())
		}
		return err
	}, age)
	return r, err
}

// Close ends the relay's metrics.
func (r *Relay) Close() error { return r.metrics.Unregister() }

// Wake makes the relay look at once: a transaction that wrote to the outbox has committed.
func (r *Relay) Wake() { wakeUp(r.wake) }

func wakeUp(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run relays until ctx ends, and gives the lease back. Placing does not wait for the brokers: the live stream
// reads what is placed.
func (r *Relay) Run(ctx context.Context) error {
	var publishing sync.WaitGroup
	idle := r.poll
	if r.db.Dialect() != "postgres" { // nobody else writes to a file, and who does in this process wakes the relay
		idle = 5 * r.poll
	}
	publishing.Go(func() { r.keep(ctx, r.ready, gatherTime, idle, r.publishWaiting) })
	r.keep(ctx, r.wake, 0, idle, r.placeWaiting)
	publishing.Wait()
	return r.release(context.WithoutCancel(ctx))
}

// keep does a step whenever it is woken, a poll after one that failed, and otherwise every idle: another process may have
// written to the outbox, which wakes nobody here. Where one has, it looks often for as long as a few polls last: what is
// written next follows from what is placed now. Steps begin a while apart at least: what comes meanwhile is gathered.
func (r *Relay) keep(ctx context.Context, woken <-chan struct{}, apart, idle time.Duration, step func(ctx context.Context, woken bool) (found, again bool, err error)) {
	//bound:exempt when to look next
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Time{}
	others := 0 // looks that are made soon, because another process writes
	for {
		polled := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			polled = true
		case <-woken:
		}
		select {
		case <-ctx.Done():
			return
		//bound:exempt gatherTime at most
		case <-time.After(apart - time.Since(began)):
		}
		began = time.Now()
		found, again, err := step(ctx, !polled)
		switch {
		case found && polled:
			others = soonLooks
		case polled && others > 0:
			others--
		}
		next := idle
		switch {
		case err != nil:
			next = r.poll
			if ctx.Err() == nil && !errors.Is(err, errNotHeld) {
				r.tel.Log.WarnContext(ctx, "the outbox is held up", "error", err)
			}
		case again:
			next = 0
		case others > 0:
			next /= soon
		}
		timer.Reset(next)
	}
}

// Where another process writes to the outbox it is looked at soon times a poll, until soonLooks found nothing.
const soon, soonLooks = 20, 60

// Once places what is new and publishes what is not published, with the lease; nothing without. again: there may be
// more to do at once.
func (r *Relay) Once(ctx context.Context) (again bool, err error) {
	_, placed, err := r.placeWaiting(ctx, false)
	published := false
	if err == nil {
		_, published, err = r.publishWaiting(ctx, false)
	}
	if errors.Is(err, errNotHeld) {
		return false, nil
	}
	return err == nil && (placed || published), err
}

// publishWaiting publishes what has a position.
func (r *Relay) publishWaiting(ctx context.Context, _ bool) (found, again bool, err error) {
	var topics []string
	if err := r.db.Read(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, "SELECT DISTINCT topic FROM outbox WHERE published_us IS NULL AND position IS NOT NULL", nil, func(rows sqldb.Row) error {
			var topic string
			err := rows.Scan(&topic)
			topics = append(topics, topic)
			return err
		})
	}); err != nil || len(topics) == 0 {
		return false, false, err
	}
	if err := r.leased(ctx); err != nil {
		return false, false, err
	}
	again, err = r.publish(ctx, topics)
	return false, again, err // whoever places wakes this
}

// publish publishes what has a position, each topic by itself, so that one which is stuck holds up no
// other.
func (r *Relay) publish(ctx context.Context, topics []string) (more bool, err error) {
	var wg sync.WaitGroup
	full, faults, partly := make([]bool, len(topics)), make([]error, len(topics)), make([]map[string][]bool, len(topics))
	for i, topic := range topics {
		//bound:goroutines topics that are published to | one each | waited for
		wg.Go(func() { partly[i], full[i], faults[i] = r.publishTopic(ctx, topic, r.partly[topic]) })
	}
	wg.Wait()
	clear(r.partly)
	for i, topic := range topics {
		r.partly[topic] = partly[i]
	}
	for i := range topics {
		more = more || full[i]
	}
	return more, errors.Join(faults...)
}

// age of the oldest row that is not published.
func (r *Relay) age(ctx context.Context) (time.Duration, error) {
	var oldest sql.NullInt64
	err := r.db.Read(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, "SELECT MIN(created_us) FROM outbox WHERE published_us IS NULL", nil, func(rows sqldb.Row) error { return rows.Scan(&oldest) })
	})
	if err != nil || !oldest.Valid {
		return 0, err
	}
	return time.Duration(r.clock.NowMicros()-oldest.Int64) * time.Microsecond, nil
}

// Prune deletes published rows older than Retention, some at a time, and tells whether more are left. The
// position up to which rows may be missing stands in leases then, as "pruned".
func (r *Relay) Prune(ctx context.Context) (more bool, err error) {
	const some = 2000
	err = r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		before := r.clock.NowMicros() - Retention.Microseconds()
		result, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id IN (SELECT id FROM outbox
			WHERE position < $1 AND published_us IS NOT NULL ORDER BY position LIMIT $2)`, before, some)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if more = n == some; err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO leases (name, token, until_us, position) VALUES ('pruned', '', 0, $1)
			ON CONFLICT (name) DO UPDATE SET position = excluded.position WHERE leases.position < excluded.position`, before)
		return err
	})
	return more, err
}
