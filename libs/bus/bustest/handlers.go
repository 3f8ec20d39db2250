package bustest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"tributary.dev/libs/bus"
)

func failingHandler(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	var failures atomic.Int64
	got := subscribe(t, b, "g", "events", func([]bus.Record) error {
		if failures.Add(1) <= 3 {
			return errors.New("store is away")
		}
		return nil
	})
	publishTo(t, b, "events", 0, 0, 1, 2)
	Eventually(t, "all are handled at last", func() bool { return got.len() == 3 })
	if !slices.Equal(got.numbers(t), []int{0, 1, 2}) {
		t.Fatalf("got %v", got.numbers(t))
	}
	dead := subscribe(t, b, "d", bus.DeadTopic("events"), nil)
	publishTo(t, b, bus.DeadTopic("events"), 0, 99)
	Eventually(t, "the end of the dead letters", func() bool { return dead.len() > 0 })
	if dead.len() != 1 {
		t.Fatal("a fault of the store made a dead letter")
	}
}

func deadLetters(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	bad := map[int]bool{3: true, 4: true, 17: true, 63: true}
	var once atomic.Bool
	got := subscribe(t, b, "g", "events", func(batch []bus.Record) error {
		for _, r := range batch {
			if bad[number(t, r)] {
				return bus.DataFault("constraint", errors.New("no such workspace"))
			}
		}
		if len(batch) > 1 && once.CompareAndSwap(false, true) {
			return errors.New("store is away") // within a bisection too this is not the data's fault
		}
		return nil
	})
	dead := subscribe(t, b, "d", bus.DeadTopic("events"), nil)
	numbers := make([]int, 64)
	for i := range numbers {
		numbers[i] = i
	}
	publishTo(t, b, "events", 0, numbers...)
	Eventually(t, "all are handled or dead", func() bool { return got.len() == 60 && dead.len() == 4 })

	handled := got.numbers(t)
	if !slices.IsSorted(handled) || slices.ContainsFunc(handled, func(n int) bool { return bad[n] }) {
		t.Fatalf("handled %v", handled)
	}
	for _, r := range dead.all() {
		if !bad[number(t, r)] || r.Key != "k" {
			t.Fatalf("not the one at fault, or changed: %+v", r)
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		n := strconv.Itoa(number(t, r))
		for key, want := range map[string]string{
			"ce_id": n, bus.HeaderDeadReason: "constraint", bus.HeaderDeadGroup: "g",
			bus.HeaderDeadTopic: "events", bus.HeaderDeadPartition: "0", bus.HeaderDeadOffset: n,
		} {
			if headers[key] != want {
				t.Fatalf("header %s is %q, want %q", key, headers[key], want)
			}
		}
	}
}

func dyingRecords(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	got, tries := &collected{}, atomic.Int64{}
	member(t, b, bus.Subscription{Group: "g", Topics: []string{"events"},
		Handle: func(_ context.Context, batch []bus.Record) error {
			if slices.ContainsFunc(batch, func(r bus.Record) bool { return number(t, r) == 1 }) {
				return bus.DataFault("constraint", errors.New("no such workspace"))
			}
			got.add(batch...)
			return nil
		},
		Dying: func(_ context.Context, r bus.Record) error {
			if number(t, r) != 1 {
				t.Errorf("%d is not dying", number(t, r))
			}
			if tries.Add(1) < 3 {
				return errors.New("store is away")
			}
			return nil
		}})
	publishTo(t, b, "events", 0, 0, 1, 2)
	dead := subscribe(t, b, "d", bus.DeadTopic("events"), func([]bus.Record) error {
		if tries.Load() < 3 {
			t.Error("a dead letter of which nobody knows yet")
		}
		return nil
	})
	Eventually(t, "all are handled or dead", func() bool { return got.len() == 2 && dead.len() == 1 })
	if tries.Load() != 3 {
		t.Fatalf("it was told %d times, not until it was taken", tries.Load())
	}
}

func panickingHandler(t *testing.T, c *Cluster) {
	log := &alarms{}
	b := c.Open(t, log.to)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	got := subscribe(t, b, "g", "events", func(batch []bus.Record) error {
		for _, r := range batch {
			if number(t, r) == 2 {
				panic("canary-7f3a says " + string(r.Value))
			}
		}
		return nil
	})
	dead := subscribe(t, b, "d", bus.DeadTopic("events"), nil)
	publishTo(t, b, "events", 0, 0, 1, 2, 3)
	Eventually(t, "the others are handled", func() bool { return got.len() == 3 && dead.len() == 1 })
	if !log.has("panicked") || log.has("canary-7f3a") {
		t.Fatal("a panic must be logged, without what it was called with")
	}
}

// handlerIsFinished: a batch under way when its member leaves is finished and committed.
func handlerIsFinished(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	publishTo(t, b, "events", 0, 0, 1)

	begun, leaving := make(chan struct{}), make(chan struct{})
	leave := member(t, b, bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(ctx context.Context, _ []bus.Record) error {
		close(begun)
		<-leaving
		return ctx.Err()
	}})
	<-begun
	left := make(chan struct{})
	go func() { leave(); close(left) }()
	close(leaving)
	<-left
	got := subscribe(t, b, "g", "events", nil)
	publishTo(t, b, "events", 0, 2)
	Eventually(t, "the next is handled", func() bool { return got.len() > 0 })
	if !slices.Equal(got.numbers(t), []int{2}) {
		t.Fatalf("got %v, want what was not finished alone", got.numbers(t))
	}
}

// outage: the way to the broker is cut while records are published and handled.
func outage(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	loseAndFind(t, c, proxy.Through, func(whileAway func()) {
		proxy.Cut()
		whileAway()
		proxy.Mend()
	})
}

func restart(t *testing.T, c *Cluster) {
	if c.Restart == nil {
		t.Skip("NOT RUN on Kafka: the broker is shared with other tests, which must not see it restart")
	}
	loseAndFind(t, c, func(*bus.Config) {}, func(whileAway func()) { c.Restart(t, whileAway) })
}

func loseAndFind(t *testing.T, c *Cluster, through func(*bus.Config), away func(whileAway func())) {
	b := c.Open(t, through)
	ensure(t, b, bus.Topic{Name: "events"}, bus.Topic{Name: "apps", Compacted: true})
	got := subscribe(t, b, "g", "events", nil)
	apps := table(t, b, "apps", "")
	publish(t, b, bus.Message{Topic: "apps", Key: "a", Value: []byte("1")})

	acked := map[int]bool{}
	next := 0
	attempt := func() bool {
		ctx, cancel := withTimeout(t, 300)
		defer cancel()
		ok := b.Publish(ctx, numbered("events", strconv.Itoa(next%5), next)) == nil
		if ok {
			acked[next] = true
		}
		next++
		return ok
	}
	for range 50 {
		attempt()
	}
	for range 2 {
		away(func() {
			for range 3 {
				if attempt() {
					t.Fatal("acknowledged by a broker that was away")
				}
			}
		})
		Eventually(t, "publishing succeeds again", attempt)
		for range 20 {
			attempt()
		}
	}
	Eventually(t, "everything acknowledged is handled", func() bool {
		seen := map[int]bool{}
		for _, n := range got.numbers(t) {
			seen[n] = true
		}
		for n := range acked {
			if !seen[n] {
				return false
			}
		}
		return true
	})
	publish(t, b, bus.Message{Topic: "apps", Key: "a", Value: []byte("2")})
	confirm(t, apps)
	if v, _ := apps.Get("a"); v != "2" {
		t.Fatalf("the table holds %q after the outage, want 2", v)
	}
}
