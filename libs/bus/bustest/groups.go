package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/wire"
)

// orderlyRebalance: members come and go under load; whoever leaves finishes and commits first.
func orderlyRebalance(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 8})
	got := &collected{}
	s := bus.Subscription{Group: "g", Topics: []string{"events"}, MaxBatch: 20, Handle: func(_ context.Context, batch []bus.Record) error {
		got.add(batch...)
		return nil
	}}
	member(t, b, s) // stays

	var total atomic.Int64
	stopLoad := running(t, func(ctx context.Context) error {
		for n := 0; ctx.Err() == nil; n += 10 {
			var msgs []bus.Message
			for i := range 10 {
				msgs = append(msgs, numbered("events", strconv.Itoa(i), n+i))
			}
			if err := b.Publish(context.WithoutCancel(ctx), msgs...); err != nil {
				return err
			}
			total.Add(10)
		}
		return nil
	})
	progress := func(what string) {
		before := got.len()
		Eventually(t, what, func() bool { return got.len() > before+100 })
	}
	progress("the first member handles records")
	for range 3 {
		second := member(t, c.Open(t), s)
		progress("records are handled after a member came")
		third := member(t, c.Open(t), s)
		progress("records are handled after another came")
		second()
		progress("records are handled after a member left")
		third()
	}
	stopLoad()
	Eventually(t, "all arrive", func() bool { return int64(got.len()) >= total.Load() })
	numbers := got.numbers(t)
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i {
			t.Fatalf("record %d was lost or handled twice (%d handled, %d published)", i, len(numbers), total.Load())
		}
	}
}

// vanishingMembers: a member's connections break again and again, and its commits are lost with them.
// Everything is handled, in order where it is not handled again.
func vanishingMembers(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events"})
	proxy := NewProxy(t)
	got := &collected{}
	s := bus.Subscription{Group: "g", Topics: []string{"events"}, MaxBatch: 10, Handle: func(_ context.Context, batch []bus.Record) error {
		got.add(batch...)
		return nil
	}}
	member(t, c.Open(t, proxy.Through), s)
	const rounds, each = 3, 200
	for round := range rounds {
		for i := range each {
			publish(t, b, numbered("events", strconv.Itoa(i%7), round*each+i))
			if i == each/2 {
				proxy.Cut()
				proxy.Mend()
			}
		}
	}
	distinct := func() int {
		seen := map[int]bool{}
		for _, n := range got.numbers(t) {
			seen[n] = true
		}
		return len(seen)
	}
	Eventually(t, "all arrive", func() bool { return distinct() == rounds*each })
	next := map[int]int64{}
	for _, r := range got.all() {
		if r.Offset > next[r.Partition] {
			t.Fatalf("partition %d: offset %d was handled before %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition] = max(next[r.Partition], r.Offset+1)
	}
}

func metadataSurvivesGenerations(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "commands", Partitions: 2})
	publishTo(t, b, "commands", 0, 0, 1, 2, 3)
	publishTo(t, b, "commands", 1, 0, 1, 2, 3)

	var mu sync.Mutex
	assigned := map[string]int{} // "partition next metadata" -> how often
	run := func(ctx context.Context, p *bus.Partition) {
		mu.Lock()
		assigned[fmt.Sprintf("%d %d %s", p.Partition, p.Next, p.Metadata)]++
		mu.Unlock()
		if p.Next == 0 {
			records, err := p.Fetch(ctx, 3)
			if err != nil {
				return
			}
			last := records[len(records)-1]
			if err := p.Commit(ctx, last.Offset+1, "position "+strconv.Itoa(number(t, last))); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
		<-ctx.Done()
	}
	count := func(key string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return assigned[key] > 0
		}
	}
	consume := func(b *bus.Bus) func() {
		return running(t, func(ctx context.Context) error { return b.Consume(ctx, "g", []string{"commands"}, run) })
	}
	first := consume(b)
	Eventually(t, "both partitions are assigned", func() bool { return count("0 0 ")() && count("1 0 ")() })
	second := consume(c.Open(t)) // makes a generation in which each has one
	Eventually(t, "one moved with its metadata", func() bool {
		return count("0 3 position 2")() || count("1 3 position 2")()
	})
	first()
	second()
	again := consume(b)
	Eventually(t, "both come back with their metadata", func() bool {
		return count("0 3 position 2")() && count("1 3 position 2")()
	})
	again()
}

// staleGeneration: a member that missed a rebalance may not move the offset of who has the partition now.
func staleGeneration(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "commands", Partitions: 1})
	publishTo(t, b, "commands", 0, 1, 2, 3)

	partitions := make(chan *bus.Partition, 10)
	hold := func(ctx context.Context, p *bus.Partition) {
		partitions <- p
		<-ctx.Done()
	}
	first := running(t, func(ctx context.Context) error { return b.Consume(ctx, "g", []string{"commands"}, hold) })
	old := <-partitions
	if err := old.Commit(t.Context(), 1, "one"); err != nil {
		t.Fatal(err)
	}
	first()
	running(t, func(ctx context.Context) error { return c.Open(t).Consume(ctx, "g", []string{"commands"}, hold) })
	current := <-partitions
	if current.Next != 1 || current.Metadata != "one" {
		t.Fatalf("resumes at %d with %q, want 1 with \"one\"", current.Next, current.Metadata)
	}
	if err := old.Commit(t.Context(), 0, "back"); !errors.Is(err, bus.ErrStaleGeneration) {
		t.Fatalf("got %v, want ErrStaleGeneration", err)
	}
	if err := current.Commit(t.Context(), 2, "two"); err != nil {
		t.Fatal(err)
	}
	if err := current.Commit(t.Context(), 3, string(make([]byte, 4097))); err == nil || errors.Is(err, bus.ErrStaleGeneration) {
		t.Fatalf("got %v: metadata beyond what brokers keep must be refused", err)
	}
}

func lostCommit(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	b := c.Open(t, proxy.Through)
	ensure(t, b, bus.Topic{Name: "commands", Partitions: 1})
	publishTo(t, b, "commands", 0, 1, 2, 3)

	partitions := make(chan *bus.Partition, 10)
	hold := func(ctx context.Context, p *bus.Partition) {
		partitions <- p
		<-ctx.Done()
	}
	stop := running(t, func(ctx context.Context) error { return b.Consume(ctx, "g", []string{"commands"}, hold) })
	p := <-partitions
	proxy.LoseAnswers(wire.OffsetCommit, 1)
	if err := p.Commit(t.Context(), 2, "landed"); err == nil || errors.Is(err, bus.ErrStaleGeneration) {
		t.Fatalf("got %v: the outcome is not known", err)
	}
	stop()
	running(t, func(ctx context.Context) error { return b.Consume(ctx, "g", []string{"commands"}, hold) })
	if p := <-partitions; p.Next != 2 || p.Metadata != "landed" {
		t.Fatalf("resumes at %d with %q, want 2 with \"landed\"", p.Next, p.Metadata)
	}
}

func abandonedMembership(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "commands", Partitions: 1})
	partitions := make(chan *bus.Partition, 10)
	running(t, func(ctx context.Context) error {
		return b.Consume(ctx, "g", []string{"commands"}, func(ctx context.Context, p *bus.Partition) {
			partitions <- p
			<-ctx.Done()
		})
	})
	old := <-partitions
	if err := old.Commit(t.Context(), 0, "before"); err != nil {
		t.Fatal(err)
	}
	old.Abandon()
	current := <-partitions
	if current.Metadata != "before" {
		t.Fatalf("comes back with %q, want \"before\"", current.Metadata)
	}
	if err := old.Commit(t.Context(), 0, "late"); !errors.Is(err, bus.ErrStaleGeneration) {
		t.Fatalf("got %v: a late commit must be refused", err)
	}
}

// offsetBelowLogStart: records that expired before they were handled are lost; the bus must say so, not
// go on behind them as if nothing was.
func offsetBelowLogStart(t *testing.T, c *Cluster) {
	log := &alarms{}
	b := c.Open(t, log.to)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 2})
	publishTo(t, b, "events", 0, 1, 2, 3, 4)
	publishTo(t, b, "events", 1, 101)

	var handled atomic.Int64
	first := member(t, b, bus.Subscription{Group: "g", Topics: []string{"events"}, MaxBatch: 2, Handle: func(_ context.Context, batch []bus.Record) error {
		if batch[0].Partition == 0 && batch[0].Offset >= 2 {
			return errors.New("store is away")
		}
		handled.Add(int64(len(batch)))
		return nil
	}})
	Eventually(t, "two are handled and committed, the third is tried", func() bool { return handled.Load() == 3 && log.has("handler fails") })
	first()
	c.deleteRecords(t, "events", 0, 3)
	publishTo(t, b, "events", 1, 102)

	got := subscribe(t, b, "g", "events", nil)
	Eventually(t, "the alarm is raised", func() bool { return log.has("not in the log") })
	Eventually(t, "the other partition goes on", func() bool { return got.len() == 1 })
	publishTo(t, b, "events", 1, 103)
	Eventually(t, "and on", func() bool { return got.len() == 2 })
	for _, r := range got.all() {
		if r.Partition == 0 {
			t.Fatalf("offset %d was handled behind records that were lost", r.Offset)
		}
	}
}

func pausedPartition(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 2})
	release := make(chan struct{})
	got := &collected{}
	member(t, b, bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(ctx context.Context, batch []bus.Record) error {
		if batch[0].Partition == 0 {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		got.add(batch...)
		return nil
	}})
	publishTo(t, b, "events", 0, 1)
	for n := range 20 {
		publishTo(t, b, "events", 1, 100+n)
	}
	Eventually(t, "the other partition goes on", func() bool { return got.len() == 20 })
	close(release)
	Eventually(t, "the paused one goes on", func() bool { return got.len() == 21 })
}

// publishTo puts numbers into one partition.
func publishTo(t testing.TB, b *bus.Bus, topic string, partition int, numbers ...int) {
	t.Helper()
	var msgs []bus.Message
	for _, n := range numbers {
		msgs = append(msgs, numbered(topic, "k", n))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := toPartition(ctx, b, topic, partition, msgs...); err != nil {
		t.Fatal(err)
	}
}

func toPartition(ctx context.Context, b *bus.Bus, topic string, partition int, msgs ...bus.Message) error {
	return b.PublishPartitions(ctx, topic, map[int][]bus.Message{partition: msgs})[partition]
}

// What a process has fetched and not handled is bounded, however many partitions it is behind on; and all go on.
func fewAreReadFarAhead(t *testing.T, c *Cluster) {
	const (
		partitions, farAhead = 12, 8
		each, records, much  = 16 << 10, 768, 256 << 10 // bytes a record, records, bytes fetched
	)
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Partitions: partitions})
	for n := 0; n < records; {
		var msgs []bus.Message
		for range 16 {
			msgs = append(msgs, bus.Message{Topic: "events", Key: strconv.Itoa(n), Value: make([]byte, each)})
			n++
		}
		publish(t, b, msgs...)
	}
	var mu sync.Mutex
	var ahead []int // bytes that each partition's second fetch gave
	handled := 0
	held := make(chan struct{})
	running(t, func(ctx context.Context) error {
		return b.Consume(ctx, "g", []string{"events"}, func(ctx context.Context, p *bus.Partition) {
			next := p.Next
			for fetch := 1; ; fetch++ {
				got, err := p.Fetch(ctx, records)
				if err != nil {
					return
				}
				mu.Lock()
				for _, r := range got {
					if r.Offset != next {
						t.Errorf("partition %d gives offset %d for %d", p.Partition, r.Offset, next)
					}
					next = r.Offset + 1
				}
				handled += len(got)
				if fetch == 2 {
					ahead = append(ahead, len(got)*each)
				}
				mu.Unlock()
				if fetch == 2 {
					select {
					case <-held:
					case <-ctx.Done():
						return
					}
				}
			}
		})
	})
	Eventually(t, "each partition has fetched twice", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(ahead) == partitions
	})
	far := 0
	for _, bytes := range ahead {
		if bytes > much {
			far++
		}
	}
	if far != farAhead {
		t.Errorf("%d partitions have fetched far ahead, want %d: %v bytes", far, farAhead, ahead)
	}
	close(held)
	Eventually(t, "all are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return handled == records
	})
}

// A fetch may hold nothing but what is left of the batch that its offset was in, and the beginning of the next.
func holeAtTheEndOfAFetch(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "apps", Compacted: true, Partitions: 1, MaxCompactionLag: time.Millisecond, Segment: time.Millisecond})
	publish(t, b, bus.Message{Topic: "apps", Key: "stays", Value: make([]byte, 100<<10)}, numbered("apps", "goes", 1))
	publish(t, b, bus.Message{Topic: "apps", Key: "large", Value: make([]byte, 200<<10)})
	published := 3
	Eventually(t, "compaction has left a hole", func() bool {
		publish(t, b, numbered("apps", "goes", published))
		published++
		if c.Clean != nil {
			c.Clean()
		}
		return published%10 == 0 && c.count(t, "apps", 0, int64(published)) < published/2
	})
	first := func(then func(p *bus.Partition)) bus.Record {
		found := make(chan bus.Record, 1)
		stop := running(t, func(ctx context.Context) error {
			return b.Consume(ctx, "g", []string{"apps"}, func(ctx context.Context, p *bus.Partition) {
				if got, err := p.Fetch(ctx, 1); err == nil {
					then(p)
					found <- got[0]
				}
			})
		})
		defer stop()
		select {
		case r := <-found:
			return r
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is fetched")
			return bus.Record{}
		}
	}
	if r := first(func(p *bus.Partition) {
		if err := p.Commit(t.Context(), 1, ""); err != nil {
			t.Error(err)
		}
	}); r.Offset != 0 {
		t.Fatalf("offset %d comes first", r.Offset)
	}
	if r := first(func(*bus.Partition) {}); r.Offset != 2 {
		t.Errorf("offset %d comes after the hole, want 2", r.Offset)
	}
}
