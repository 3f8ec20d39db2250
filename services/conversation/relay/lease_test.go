package relay

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// A relay that was stopped after it took the lease, and goes on after another has taken it over.
func TestALostLeaseIsNoticedWherePositionsAreGiven(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		now := time.UnixMicro(1_700_000_000_000_000)
		var both [2]*Relay
		for i := range both {
			var err error
			if both[i], err = New(db, nil, &clock.Clock{Local: func() time.Time { return now }}, telemetry.Discard(), 0, "", nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = both[i].Close() })
		}
		for i, r := range both {
			if held, err := r.lease(t.Context()); held != (i == 0) || err != nil {
				t.Fatalf("lease: %v, %v", held, err)
			}
		}
		now = now.Add(time.Minute)
		if held, err := both[1].lease(t.Context()); !held || err != nil {
			t.Fatalf("lease: %v, %v", held, err)
		}
		if _, _, err := both[0].place(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("the zombie gives positions: %v", err)
		}
		if err := both[0].release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held, err := both[0].lease(t.Context()); held || err != nil {
			t.Errorf("the zombie has given back another's lease: %v, %v", held, err)
		}
		if _, _, err := both[1].place(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A process that was killed is started again: it need not wait for its own lease to end.
func TestAProcessTakesOverFromItsPredecessorAndNobodyElse(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		now := time.UnixMicro(1_700_000_000_000_000)
		relayOf := func(owner string) *Relay {
			r, err := New(db, nil, &clock.Clock{Local: func() time.Time { return now }}, telemetry.Discard(), 0, owner, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			return r
		}
		takes := func(r *Relay, want bool) {
			t.Helper()
			if held, err := r.lease(t.Context()); held != want || err != nil {
				t.Errorf("held %v (%v), want %v", held, err, want)
			}
		}
		killed, other, nameless, again := relayOf("host:/data"), relayOf("another:/data"), relayOf(""), relayOf("host:/data")
		takes(killed, true)
		takes(other, false)
		takes(nameless, false)
		takes(again, true)
		takes(again, true)
		takes(killed, false) // should it still run, it does not take it back
		if _, _, err := killed.place(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("the one taken over from gives positions: %v", err)
		}
	})
}

// Processes whose clocks are an hour apart: who holds the lease keeps it, and when it dies the other takes over
// as soon as ever.
func TestTheLeaseGoesByNobodysClock(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
			now := time.UnixMicro(1_700_000_000_000_000)
			relayOf := func(off time.Duration) *Relay {
				r, err := New(db, nil, &clock.Clock{Local: func() time.Time { return now.Add(off) }}, telemetry.Discard(), 0, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = r.Close() })
				return r
			}
			takes := func(r *Relay, want bool) {
				t.Helper()
				if held, err := r.lease(t.Context()); held != want || err != nil {
					t.Fatalf("clocks %s apart: held %v (%v), want %v", off, held, err, want)
				}
			}
			wrong, right := relayOf(off), relayOf(0)
			takes(wrong, true)
			for range 30 {
				now = now.Add(time.Second)
				takes(wrong, true)
				takes(right, false)
			}
			now = now.Add(leaseTime)
			takes(right, false)
			now = now.Add(time.Second)
			takes(right, true)
			takes(wrong, false)
		})
	}
}

// A turn that is not taken must not be mistaken for another's whose lease was taken over: its rows are placed with the
// next.
func TestATurnThatIsNotTakenPlacesNothing(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		ctx, now := t.Context(), time.UnixMicro(1_700_000_000_000_000)
		r, err := New(db, nil, &clock.Clock{Local: func() time.Time { return now }}, telemetry.Discard(), 0, "", func(Page) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if held, err := r.lease(ctx); !held || err != nil {
			t.Fatalf("lease: %v, %v", held, err)
		}
		write := func(turn *store.Turn) {
			t.Helper()
			if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
				return store.AppendBehind(ctx, tx, turn, 0, now.UnixMicro(), store.Entry{Topic: store.TopicContacts, Key: "k", Payload: &pb.ConversationEvent{}})
			}); err != nil {
				t.Fatal(err)
			}
		}
		write(&store.Turn{}) // it waits
		refused := r.Turn()
		write(refused)
		if _, rows := refused.Placed(); len(rows) > 0 {
			t.Errorf("it overtook what waits: %v", rows)
		}
		if _, placed, err := r.place(ctx); placed != 2 || err != nil {
			t.Fatal(placed, err)
		}
		taken := r.Turn()
		write(taken)
		if before, rows := taken.Placed(); len(rows) != 1 || before == 0 || rows[0].Position != before+1 {
			t.Errorf("behind %d: %v", before, rows)
		}
		if err := r.release(ctx); err != nil {
			t.Fatal(err)
		}
		if r.Turn().Token != "" {
			t.Error("who gave the lease back goes on placing")
		}
	})
}

// What others place is listened for while another may have the lease, and not by who has it.
func TestWhoHasTheLeaseDoesNotListenToItself(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		start := time.UnixMicro(1_700_000_000_000_000)
		var passed atomic.Int64
		r, err := New(db, nil, &clock.Clock{Local: func() time.Time { return start.Add(time.Duration(passed.Load())) }}, telemetry.Discard(), time.Millisecond, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		ctx, cancel := context.WithCancel(t.Context())
		ended, listens := make(chan error, 1), make(chan bool)
		go func() {
			ended <- r.WhileNotHeld(ctx, func(ctx context.Context) error {
				listens <- true
				<-ctx.Done()
				listens <- false
				return nil
			})
		}()
		next := func(want bool, when string) {
			t.Helper()
			select {
			case got := <-listens:
				if got != want {
					t.Fatalf("%s: listens %v, want %v", when, got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: nothing changes, want %v", when, want)
			}
		}
		lease := func() {
			t.Helper()
			if held, err := r.lease(t.Context()); !held || err != nil {
				t.Fatal(held, err)
			}
		}
		unchanged := func(when string) {
			t.Helper()
			select {
			case got := <-listens:
				t.Fatalf("%s: listens %v", when, got)
			case <-time.After(20 * time.Millisecond):
			}
		}
		renewing := func(d time.Duration) {
			t.Helper()
			for range 4 {
				lease()
				passed.Add(int64(d / 4))
			}
			lease()
		}
		next(true, "never held")
		lease()
		passed.Add(int64(leaseTime))
		unchanged("held once")
		renewing(leaseTime + time.Second)
		next(false, "held for long")
		passed.Add(int64(leaseTime - 1))
		unchanged("held still")
		passed.Add(1)
		next(true, "not renewed")
		renewing(leaseTime + time.Second)
		next(false, "renewed for long")
		unchanged("renewed for long")
		if err := r.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		next(true, "given back")
		cancel()
		next(false, "ended")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestWhatListensMayFail(t *testing.T) {
	r := &Relay{poll: time.Millisecond, clock: &clock.Clock{}}
	broken := errors.New("broken")
	if err := r.WhileNotHeld(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
