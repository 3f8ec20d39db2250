// Package relay carries the outbox to the topics. One process at a time holds its lease. It gives every
// row a position that rises for ever, in a transaction that the lease's token guards (one of its own, or that which
// wrote the row, where nobody else gives any at that moment and no row waits), and only
// then publishes: a row keeps its position, however often it is published. Of a partition one batch is on
// its way at a time, and nothing overtakes what is not acknowledged.
package relay

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	"tributary.dev/services/conversation/store"
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
const gatherTime = 50 * time.Millisecond

// placeBatch rows are given their positions at once, each as many as it has entries.
//
//bound:queue outbox rows that get positions at once | {} | the others wait in the database
const placeBatch = 1000

// handedOver is the largest payload of a row, in bytes, that goes to the live stream without being read again.
//
//bound:limit a row's payload that is handed to the live streams | {} bytes | they read it, and what is behind it, from the database
const handedOver = 4 << 10

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

// Turn lets a transaction try to place what it appends, where this process has the lease; whoever does renews it.
func (r *Relay) Turn() *store.Turn {
	if r.renewed.Load() == nil {
		return &store.Turn{}
	}
	return &store.Turn{Token: r.token, Until: r.until(), Number: turnNumber()}
}

// turnNumber is one that no other turn has: of an earlier one's number it would be taken for that.
func turnNumber() int64 { return rand.Int64() }

// until is when a lease ends that is taken now.
func (r *Relay) until() int64 { return r.clock.NowMicros() + leaseTime.Microseconds() }

// Committed is Wake where the transaction had a turn.
func (r *Relay) Committed(turn *store.Turn) {
	before, rows := turn.Placed()
	if len(rows) == 0 {
		r.Wake()
		return
	}
	for i := range rows {
		if len(rows[i].Payload) > handedOver {
			rows[i].Payload = nil
		}
	}
	page := Page{From: before}
	page.take(rows)
	r.placed(page)
	wakeUp(r.ready)
}

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

// placeWaiting places what is new. Whoever looks without being woken looks first whether something is: who has
// nothing to do writes nothing.
func (r *Relay) placeWaiting(ctx context.Context, woken bool) (found, again bool, err error) {
	waits := woken
	if !waits {
		err = r.db.Read(ctx, func(tx *sqldb.Tx) error {
			return sqldb.Query(ctx, tx, "SELECT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL)", nil, func(row sqldb.Row) error { return row.Scan(&waits) })
		})
	}
	if err != nil || !waits {
		return false, false, err
	}
	if err := r.leased(ctx); err != nil {
		return false, false, err
	}
	page, placed, err := r.place(ctx)
	if err != nil {
		return false, false, err
	}
	if placed > 0 {
		r.placed(page)
		wakeUp(r.ready)
	}
	return placed > 0, placed == placeBatch, nil
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

// errNotHeld: another process has the lease.
var errNotHeld = errors.New("relay: another process has the lease")

// leased is lease, but asks only once a quarter of the time is over. errNotHeld where this process has it not.
func (r *Relay) leased(ctx context.Context) error {
	r.leasing.Lock()
	defer r.leasing.Unlock()
	if renewed := r.renewed.Load(); renewed != nil && r.clock.Sent().Sub(*renewed) < leaseTime/4 {
		return nil
	}
	held, err := r.lease(ctx)
	if err == nil && !held {
		err = errNotHeld
	}
	return err
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
			[]any{r.token, r.until(), r.owner, dead.token, dead.until, r.succeeds()}, func(sqldb.Row) error {
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
	r.renewed.Store(nil)
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE leases SET until_us = 0 WHERE name = 'relay' AND token = $1", r.token)
		return err
	})
}

// errLost: another process has taken the lease.
var errLost = errors.New("relay: the lease was lost")

// Page is what was placed at once, as far as it is handed over: the rows of topic conversations behind From and up
// to UpTo. From is the last position that had been given before.
type Page struct {
	From, UpTo int64
	//bound:exempt no more than placeBatch
	Rows []store.Row
}

// place gives rows their positions: the last one plus one, or the clock in microseconds where that is
// more, so that positions rise after a restore too.
func (r *Relay) place(ctx context.Context) (page Page, placed int, err error) {
	held := false
	var rows []store.Row
	turn := turnNumber()
	if err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		held, rows = false, nil
		if err := tx.Queue(ctx, "SELECT COUNT(*) > 0 FROM leases WHERE name = 'relay' AND token = $1", []any{r.token},
			func(row sqldb.Row) error { return row.Scan(&held) }); err != nil {
			return err
		}
		// The lease is locked before anything is placed: what follows sees all that another holder did, and none does
		// anything meanwhile. Where nothing waits nothing is written.
		if err := tx.Queue(ctx, `UPDATE leases SET turn = $2 WHERE name = 'relay' AND token = $1
			AND EXISTS (SELECT 1 FROM outbox WHERE position IS NULL) RETURNING position`, []any{r.token, turn},
			func(row sqldb.Row) error { return row.Scan(&page.From) }); err != nil {
			return err
		}
		if err := tx.Queue(ctx, `UPDATE outbox SET position = base.position + line.n
			FROM (SELECT id, SUM(entries) OVER (ORDER BY seq, id) AS n FROM outbox WHERE position IS NULL ORDER BY seq, id LIMIT $2) AS line,
			(SELECT CASE WHEN position > $3 THEN position ELSE $3 END AS position FROM leases WHERE name = 'relay' AND token = $1 AND turn = $6) AS base
			WHERE outbox.id = line.id
			RETURNING topic, workspace_id, outbox.position, entries, CASE WHEN topic = $4 AND LENGTH(payload) <= $5 THEN payload END`,
			[]any{r.token, placeBatch, r.clock.NowMicros() - 1, store.TopicConversations, handedOver, turn}, func(row sqldb.Row) error {
				var p store.Row
				err := row.Scan(&p.Topic, &p.Workspace, &p.Position, &p.Entries, &p.Payload)
				rows = append(rows, p)
				return err
			}); err != nil {
			return err
		}
		return tx.Queue(ctx, `UPDATE leases SET position = (SELECT MAX(position) FROM outbox) WHERE name = 'relay' AND token = $1
			AND turn = $2 AND position < (SELECT MAX(position) FROM outbox)`, []any{r.token, turn}, nil)
	}); err != nil {
		return Page{}, 0, err
	}
	if !held {
		r.renewed.Store(nil)
		return Page{}, 0, errLost
	}
	page.take(rows)
	return page, len(rows), nil
}

// take takes the rows before the first whose payload is too large to be handed over.
func (p *Page) take(rows []store.Row) {
	slices.SortFunc(rows, func(a, b store.Row) int { return cmp.Compare(a.Position, b.Position) })
	p.UpTo = p.From
	for _, row := range rows {
		if row.Topic == store.TopicConversations {
			if row.Payload == nil {
				return
			}
			p.Rows = append(p.Rows, row)
		}
		p.UpTo = row.Position
	}
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
