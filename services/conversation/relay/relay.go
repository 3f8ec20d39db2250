// Package relay carries the outbox to the topics. One process at a time holds its lease. It gives every
// row a position that rises for ever, in a transaction of its own that the lease's token guards, and only
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

// leaseTime is how long a relay that has died holds the others up.
//
//bound:timeout a relay that has died | {} | another takes over
const leaseTime = 10 * time.Second

// publishTime bounds one call of the broker; it and the database's own time-outs end well before a lease.
const publishTime = 4 * time.Second

// gatherTime lies between two looks at what is to be published: a look costs a dozen statements and calls, of one
// row as of a hundred. The live stream does not wait for it.
//
//bound:retry publishing the outbox, however often there is something | {} apart | it is published together
const gatherTime = 20 * time.Millisecond

// placeBatch rows are given their positions at once, each as many as it has entries.
//
//bound:queue outbox rows that get positions at once | {} | the others wait in the database
const placeBatch = 1000

// Publisher is what the relay needs of the bus.
type Publisher interface {
	PartitionFor(ctx context.Context, topic, key string) (int, error)
	PublishPartition(ctx context.Context, topic string, partition int, msgs []bus.Message) error
}

// Relay is one process's candidate for the lease.
type Relay struct {
	db     *sqldb.DB
	bus    Publisher
	clock  *clock.Clock
	tel    *telemetry.Telemetry
	placed func()
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
func New(db *sqldb.DB, b Publisher, clk *clock.Clock, tel *telemetry.Telemetry, poll time.Duration, owner string, placed func()) (*Relay, error) {
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
	publishing.Go(func() { r.keep(ctx, r.ready, gatherTime, r.publishWaiting) })
	r.keep(ctx, r.wake, 0, r.placeWaiting)
	publishing.Wait()
	return r.release(context.WithoutCancel(ctx))
}

// keep does a step whenever it is woken, and every poll: another process may have written to the outbox, which
// wakes nobody here. Where one has, it looks often for as long as a few polls last: what is written next follows from
// what is placed now. Steps begin a while apart at least: what comes meanwhile is gathered.
func (r *Relay) keep(ctx context.Context, woken <-chan struct{}, apart time.Duration, step func(context.Context) (found, again bool, err error)) {
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
		found, again, err := step(ctx)
		switch {
		case found && polled:
			others = soonLooks
		case polled && others > 0:
			others--
		}
		next := r.poll
		switch {
		case err != nil:
			if ctx.Err() == nil {
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

// Once places what is new and publishes what is not published, with the lease. again: there may be more to do
// at once.
func (r *Relay) Once(ctx context.Context) (again bool, err error) {
	_, placed, err := r.placeWaiting(ctx)
	if err != nil {
		return false, err
	}
	_, published, err := r.publishWaiting(ctx)
	return err == nil && (placed || published), err
}

// placeWaiting places what is new. The lease is asked for only where something is: who has nothing to do
// leaves the database alone.
func (r *Relay) placeWaiting(ctx context.Context) (found, again bool, err error) {
	var waits bool
	if err := r.db.Read(ctx, "SELECT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL)", nil, func(rows sqldb.Row) error {
		return rows.Scan(&waits)
	}); err != nil || !waits {
		return false, false, err
	}
	if held, err := r.leased(ctx); err != nil || !held {
		return false, false, err
	}
	placed, err := r.place(ctx)
	if err != nil {
		return false, false, err
	}
	if placed > 0 {
		r.placed()
		wakeUp(r.ready)
	}
	return placed > 0, placed == placeBatch, nil
}

// publishWaiting publishes what has a position.
func (r *Relay) publishWaiting(ctx context.Context) (found, again bool, err error) {
	var topics []string
	if err := r.db.Read(ctx, "SELECT DISTINCT topic FROM outbox WHERE published_us IS NULL AND position IS NOT NULL", nil, func(rows sqldb.Row) error {
		var topic string
		err := rows.Scan(&topic)
		topics = append(topics, topic)
		return err
	}); err != nil || len(topics) == 0 {
		return false, false, err
	}
	if held, err := r.leased(ctx); err != nil || !held {
		return false, false, err
	}
	again, err = r.publish(ctx, topics)
	return false, again, err // whoever places wakes this
}

// leased is lease, but asks only once a quarter of the time is over.
func (r *Relay) leased(ctx context.Context) (held bool, err error) {
	r.leasing.Lock()
	defer r.leasing.Unlock()
	if renewed := r.renewed.Load(); renewed != nil && r.clock.Sent().Sub(*renewed) < leaseTime/4 {
		return true, nil
	}
	return r.lease(ctx)
}

// lease tells whether this process holds it now. It takes one that was given back, or that nobody has renewed
// for as long as a lease is, by this process's own watch: clocks may differ by more than a lease is long. The
// first time it also takes what its own predecessor held: should that still run, the token keeps it from doing
// harm.
func (r *Relay) lease(ctx context.Context) (held bool, err error) {
	watch := r.clock.Sent()
	dead := sighting{}
	if r.seen.at.Add(leaseTime).Before(watch) {
		dead = r.seen
	}
	var found sighting
	err = r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		held, found = false, sighting{at: watch}
		if err := sqldb.Query(ctx, tx, `INSERT INTO leases (name, token, until_us, owner) VALUES ('relay', $1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET token = excluded.token, until_us = excluded.until_us, owner = excluded.owner
			WHERE leases.token = excluded.token OR leases.until_us = 0 OR (leases.token = $4 AND leases.until_us = $5)
			OR (leases.owner = $6 AND leases.owner <> '') RETURNING 1`,
			[]any{r.token, r.clock.NowMicros() + leaseTime.Microseconds(), r.owner, dead.token, dead.until, r.succeeds()}, func(sqldb.Row) error {
				held = true
				return nil
			}); err != nil || held {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT token, until_us FROM leases WHERE name = 'relay'").Scan(&found.token, &found.until)
	})
	if err != nil {
		return false, err
	}
	if found.token != r.seen.token || found.until != r.seen.until {
		r.seen = found
	}
	r.renewed.Store(nil)
	if held {
		r.held = true
		r.renewed.Store(&watch)
	}
	return held, nil
}

// sighting is a lease of another's as it was found, and since when it has been so by this process's watch.
type sighting struct {
	token string
	until int64
	at    time.Time
}

// succeeds is whose lease may be taken over: a predecessor's, once.
func (r *Relay) succeeds() string {
	if r.held {
		return ""
	}
	return r.owner
}

func (r *Relay) release(ctx context.Context) error {
	//bound:timeout giving the lease back | {} | it ends by itself
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE leases SET until_us = 0 WHERE name = 'relay' AND token = $1", r.token)
		return err
	})
}

// errLost: another process has taken the lease.
var errLost = errors.New("relay: the lease was lost")

// place gives rows their positions: the last one plus one, or the clock in microseconds where that is
// more, so that positions rise after a restore too.
func (r *Relay) place(ctx context.Context) (int, error) {
	placed := 0
	err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		placed = 0
		var last int64
		err := tx.QueryRowContext(ctx, `UPDATE leases SET position = position WHERE name = 'relay' AND token = $1 RETURNING position`, r.token).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			r.renewed.Store(nil)
			return errLost
		}
		if err != nil {
			return err
		}
		before := max(last, r.clock.NowMicros()-1)
		last = before
		if err := sqldb.Query(ctx, tx, `UPDATE outbox SET position = CAST($1 AS BIGINT) + line.n
			FROM (SELECT id, SUM(entries) OVER (ORDER BY seq, id) AS n FROM outbox WHERE position IS NULL ORDER BY seq, id LIMIT $2) AS line
			WHERE outbox.id = line.id RETURNING position`, []any{before, placeBatch}, func(rows sqldb.Row) error {
			var position int64
			err := rows.Scan(&position)
			placed, last = placed+1, max(last, position)
			return err
		}); err != nil || placed == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE leases SET position = $2 WHERE name = 'relay' AND token = $1", r.token, last)
		return err
	})
	return placed, err
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
	err := r.db.Read(ctx, "SELECT MIN(created_us) FROM outbox WHERE published_us IS NULL", nil, func(rows sqldb.Row) error { return rows.Scan(&oldest) })
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
