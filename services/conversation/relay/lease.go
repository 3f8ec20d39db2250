package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"tributary.dev/libs/sqldb"
)

// leaseTime is how long a relay that has died holds the others up.
//
//bound:timeout a relay that has died | {} | another takes over
const leaseTime = 10 * time.Second

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

// WhileNotHeld runs do whenever another process may have the lease: what that one places is to be learned of. do ends where
// this process has had the lease for as long as a lease is, or ctx ends, or by an error of its own.
func (r *Relay) WhileNotHeld(ctx context.Context, do func(ctx context.Context) error) error {
	for r.await(ctx, false, 0) {
		if err := r.untilHeld(ctx, do); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) untilHeld(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		if r.await(ctx, true, leaseTime) {
			cancel()
		}
	})
	return do(ctx)
}

// await waits until the lease has been held, or not held, for a while, and tells whether it was: not where ctx ends before.
func (r *Relay) await(ctx context.Context, held bool, long time.Duration) bool {
	tick := time.NewTicker(r.poll)
	defer tick.Stop()
	since := r.clock.Sent()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		switch now := r.clock.Sent(); {
		case r.holds() != held:
			since = now
		case now.Sub(since) >= long:
			return true
		}
	}
}

// holds tells whether this process has the lease, as far as it knows: where it has not had it for as long as a lease is,
// another may.
func (r *Relay) holds() bool {
	renewed := r.renewed.Load()
	return renewed != nil && r.clock.Sent().Sub(*renewed) < leaseTime
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

// until is when a lease ends that is taken now.
func (r *Relay) until() int64 { return r.clock.NowMicros() + leaseTime.Microseconds() }

// errLost: another process has taken the lease.
var errLost = errors.New("relay: the lease was lost")
