package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/wire"
)

// Run is what a broker must pass for a bus to keep its promises on it. open gives a cluster for each
// subtest.
func Run(t *testing.T, open func(t testing.TB) *Cluster) {
	for _, part := range []struct {
		name string
		test func(t *testing.T, c *Cluster)
	}{
		{"publish/keys keep their partition and order", keysKeepTheirPartition},
		{"publish/one too large fails alone", oneTooLargeFailsAlone},
		{"publish/in-flight bytes are bounded until the client lets go", inFlightIsBounded},
		{"publish/what nobody waits for any more stays behind", abandonedCalls},
		{"publish/a lost ack doubles but loses nothing", lostAcksDouble},
		{"publish/a partition's batch lands whole and is not tried again", partitionBatchIsNotRetried},
		{"publish/a clock that is wrong changes nothing", wrongClock},
		{"topics/settings are brought into line", settingsAreBroughtIntoLine},
		{"group/an orderly rebalance redelivers nothing", orderlyRebalance},
		{"group/members that vanish lose nothing", vanishingMembers},
		{"group/metadata survives generations", metadataSurvivesGenerations},
		{"group/a stale generation may not commit", staleGeneration},
		{"group/a commit whose answer was lost is not known", lostCommit},
		{"group/who abandons its membership joins anew", abandonedMembership},
		{"group/an offset below the log start stops the partition", offsetBelowLogStart},
		{"group/a paused partition holds up no other", pausedPartition},
		{"group/few of many partitions are read far ahead", fewAreReadFarAhead},
		{"subscribe/a failing handler gets its batch again", failingHandler},
		{"subscribe/faults of the data become dead letters", deadLetters},
		{"subscribe/who is to know of a dead letter knows before it is there", dyingRecords},
		{"subscribe/a handler that panics does too", panickingHandler},
		{"subscribe/a handler under way is finished and committed", handlerIsFinished},
		{"broker/an outage loses nothing", outage},
		{"broker/a restart loses nothing", restart},
		{"scan/gives what was there, between times", scanBetweenTimes},
		{"tail/everyone gets what comes after", tailGetsWhatComesAfter},
		{"table/follows, deletes and confirms", tableFollows},
		{"table/reads across compaction holes", tableAcrossHoles},
		{"group/a hole that a fetch ends behind is crossed", holeAtTheEndOfAFetch},
		{"table/shows no old values while it is read", tableShowsNoOldValues},
		{"table/starts from its snapshot while the broker is away", tableSnapshot},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, open(t))
		})
	}
}

func keysKeepTheirPartition(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events"})
	got := subscribe(t, b, "g", "events", nil)
	for i := range 40 {
		publish(t, b, numbered("events", "key-"+strconv.Itoa(i%8), i))
	}
	Eventually(t, "all arrive", func() bool { return got.len() == 40 })
	last := map[string]int{}
	for _, r := range got.all() {
		partition, err := b.PartitionFor(t.Context(), "events", r.Key)
		if err != nil || partition != r.Partition {
			t.Fatalf("%s went to partition %d, PartitionFor says %d (%v)", r.Key, r.Partition, partition, err)
		}
		if n := number(t, r); n < last[r.Key] {
			t.Fatalf("%s: %d after %d", r.Key, n, last[r.Key])
		} else {
			last[r.Key] = n
		}
		if r.Topic != "events" || len(r.Headers) != 1 || r.Headers[0].Key != "ce_id" || r.Time.IsZero() {
			t.Fatalf("record does not come as it was published: %+v", r)
		}
	}
}

// wrongClock: a broker may refuse what was stamped long ahead.
func wrongClock(t *testing.T, c *Cluster) {
	right := c.Open(t)
	ensure(t, right, bus.Topic{Name: "events", Partitions: 1})
	for n, off := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		b := c.Open(t, func(cfg *bus.Config) { cfg.Now = func() time.Time { return time.Now().Add(off) } })
		publish(t, b, numbered("events", "a", 2*n))
		if err := toPartition(t.Context(), b, "events", 0, numbered("events", "a", 2*n+1)); err != nil {
			t.Fatal(err)
		}
	}
	got := subscribe(t, right, "g", "events", nil)
	Eventually(t, "all arrive", func() bool { return slices.Equal(got.numbers(t), []int{0, 1, 2, 3}) })
}

func oneTooLargeFailsAlone(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events"})
	got := subscribe(t, b, "g", "events", nil)

	big := bus.Message{Topic: "events", Key: "big", Value: make([]byte, bus.MaxValueBytes+1)}
	if err := b.Publish(t.Context(), big); !errors.Is(err, bus.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if err := b.Publish(t.Context(), numbered("events", "a", 1), big, numbered("events", "b", 2)); !errors.Is(err, bus.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	largest := bus.Message{Topic: "events", Key: "largest", Value: make([]byte, bus.MaxValueBytes)}
	publish(t, b, largest)
	Eventually(t, "the others arrive", func() bool { return got.len() == 3 })
	for _, r := range got.all() {
		if r.Key == "big" {
			t.Fatal("what is too large was published")
		}
	}
}

func inFlightIsBounded(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	b := c.Open(t, proxy.Through, func(cfg *bus.Config) { cfg.MaxInFlightBytes = 2 * bus.MaxBatchBytes })
	ensure(t, b, bus.Topic{Name: "events"})
	publish(t, b, numbered("events", "a", 1)) // the client knows the topic from now on
	proxy.StallAnswers()

	value := make([]byte, bus.MaxValueBytes)
	full := 0
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := b.Publish(ctx, bus.Message{Topic: "events", Key: "a", Value: value})
		cancel()
		if err == nil {
			t.Fatal("acknowledged by nobody")
		}
		if errors.Is(err, bus.ErrFull) {
			full++
		}
	}
	if full == 0 {
		t.Fatal("calls that timed out do not count, though the client still holds their messages")
	}
	proxy.Mend()
	Eventually(t, "there is room again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return b.Publish(ctx, bus.Message{Topic: "events", Key: "a", Value: value}) == nil
	})
}

func abandonedCalls(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	b := c.Open(t, proxy.Through)
	ensure(t, b, bus.Topic{Name: "events", Partitions: 1})
	got := subscribe(t, c.Open(t), "g", "events", nil)

	var first chan error
	n := 10
	begin := func() {
		publish(t, b, numbered("events", "a", 1))
		proxy.StallAnswers()
		n++
		ended, msg := make(chan error, 1), numbered("events", "a", n)
		go func() { ended <- b.Publish(t.Context(), msg) }()
		first = ended
	}
	begin()
	Eventually(t, "the first is on its way", func() bool {
		select {
		case <-first: // it met a connection that was still being made
			proxy.Mend()
			begin()
		default:
		}
		return slices.Contains(got.numbers(t), n)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.Publish(ctx, numbered("events", "a", 3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the caller's deadline", err)
	}
	proxy.Mend()
	<-first
	publish(t, b, numbered("events", "a", 4))
	Eventually(t, "the last arrives", func() bool { return slices.Contains(got.numbers(t), 4) })
	if slices.Contains(got.numbers(t), 3) {
		t.Fatalf("got %v: what its caller has given up, and spooled, must not leave as well", got.numbers(t))
	}
}

func lostAcksDouble(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	b := c.Open(t, proxy.Through)
	ensure(t, b, bus.Topic{Name: "events"})
	got := subscribe(t, c.Open(t), "g", "events", nil)

	proxy.LoseAnswers(wire.Produce, 2) // the client tries twice
	err := b.Publish(t.Context(), numbered("events", "a", 1))
	if err == nil {
		t.Fatal("published, though no answer came")
	}
	Eventually(t, "it landed all the same", func() bool { return got.len() >= 1 })
	publish(t, b, numbered("events", "a", 1), numbered("events", "a", 2))
	Eventually(t, "the second arrives", func() bool { return slices.Contains(got.numbers(t), 2) })
	if doubles := len(got.numbers(t)); doubles < 3 {
		t.Fatalf("got %v: a lost ack must show as a double", got.numbers(t))
	}
}

func partitionBatchIsNotRetried(t *testing.T, c *Cluster) {
	proxy := NewProxy(t)
	b := c.Open(t, proxy.Through)
	ensure(t, b, bus.Topic{Name: "events"})
	got := subscribe(t, c.Open(t), "g", "events", nil)

	batch := []bus.Message{numbered("events", "a", 1), numbered("events", "b", 2), numbered("events", "c", 3)}
	if err := toPartition(t.Context(), b, "events", 2, batch...); err != nil {
		t.Fatal(err)
	}
	proxy.LoseAnswers(wire.Produce, 1)
	lost := []bus.Message{numbered("events", "a", 4), numbered("events", "a", 5)}
	if err := toPartition(t.Context(), b, "events", 2, lost...); err == nil {
		t.Fatal("acknowledged, though no answer came")
	}
	publish(t, b, numbered("events", "end", 6))
	Eventually(t, "all arrive", func() bool { return got.len() >= 6 })
	numbers := got.numbers(t)
	slices.Sort(numbers)
	if !slices.Equal(numbers, []int{1, 2, 3, 4, 5, 6}) {
		t.Fatalf("got %v, want each once: it must not be tried again", numbers)
	}
	for _, r := range got.all() {
		if r.Key != "end" && r.Partition != 2 {
			t.Fatalf("went to partition %d, not 2", r.Partition)
		}
	}
	// Several at once: each has its own outcome.
	failed := b.PublishPartitions(t.Context(), "events", map[int][]bus.Message{
		0: {{Key: "a", Value: make([]byte, bus.MaxBatchBytes)}}, 1: {numbered("events", "a", 7)}, 3: {numbered("events", "b", 8), numbered("events", "c", 9)},
	})
	if len(failed) != 1 || !errors.Is(failed[0], bus.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge of the first alone", failed)
	}
	Eventually(t, "the others arrive", func() bool { return got.len() >= 9 })
	for _, r := range got.all() {
		if want := map[int]int{7: 1, 8: 3, 9: 3}[number(t, r)]; want > 0 && r.Partition != want {
			t.Fatalf("went to partition %d, not %d", r.Partition, want)
		}
	}
}

func settingsAreBroughtIntoLine(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "events", Retention: 14 * 24 * time.Hour}, bus.Topic{Name: "apps", Compacted: true})
	wanted := map[string]map[string]string{
		"events": {"cleanup.policy": "delete", "retention.ms": "259200000"},
		"apps":   {"cleanup.policy": "compact", "max.compaction.lag.ms": "3600000", "segment.ms": "3600000"},
	}
	for range 2 { // and again, with nothing left to do
		ensure(t, b,
			bus.Topic{Name: "events", Retention: 3 * 24 * time.Hour, OffsetsOutlive: true},
			bus.Topic{Name: "apps", Compacted: true, MaxCompactionLag: time.Hour, Segment: time.Hour})
	}
	for topic, settings := range wanted {
		Eventually(t, topic+" has the settings", func() bool { // brokers tell of what they have taken a little later
			found := c.settings(t, topic)
			for name, value := range settings {
				if found[name] != value {
					return false
				}
			}
			return true
		})
	}
	err := b.EnsureTopics(t.Context(), bus.Topic{Name: "commands", Retention: 400 * 24 * time.Hour, OffsetsOutlive: true})
	if err == nil || !strings.Contains(err.Error(), "offsets.retention.minutes") {
		t.Fatalf("got %v: commits that expire before the records must be refused", err)
	}
}

// collected is what a handler was given, by any number of members.
type collected struct {
	mu      sync.Mutex
	records []bus.Record
}

func (c *collected) add(records ...bus.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = append(c.records, records...)
}

func (c *collected) all() []bus.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records)
}

func (c *collected) len() int { return len(c.all()) }

func (c *collected) numbers(t testing.TB) []int {
	var numbers []int
	for _, r := range c.all() {
		numbers = append(numbers, number(t, r))
	}
	return numbers
}

// subscribe collects what fail lets pass, as a member that leaves with the test.
func subscribe(t testing.TB, b *bus.Bus, group, topic string, fail func(batch []bus.Record) error) *collected {
	t.Helper()
	got := &collected{}
	member(t, b, bus.Subscription{Group: group, Topics: []string{topic}, Handle: func(_ context.Context, batch []bus.Record) error {
		if fail != nil {
			if err := fail(batch); err != nil {
				return err
			}
		}
		got.add(batch...)
		return nil
	}})
	return got
}

// member runs a subscription until leave is called, or the test ends.
func member(t testing.TB, b *bus.Bus, s bus.Subscription) (leave func()) {
	return running(t, func(ctx context.Context) error { return b.Subscribe(ctx, s) })
}

// running runs f until stop is called, which waits for it, or the test ends.
func running(t testing.TB, f func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Errorf("ended with %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func ensure(t testing.TB, b *bus.Bus, topics ...bus.Topic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.EnsureTopics(ctx, topics...); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, b *bus.Bus, msgs ...bus.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Publish(ctx, msgs...); err != nil {
		t.Fatal(err)
	}
}

func numbered(topic, key string, n int) bus.Message {
	return bus.Message{Topic: topic, Key: key, Value: []byte(strconv.Itoa(n)), Headers: []bus.Header{{Key: "ce_id", Value: fmt.Append(nil, n)}}}
}

func number(t testing.TB, r bus.Record) int {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		t.Fatalf("a value that was not published: %q", r.Value)
	}
	return n
}
