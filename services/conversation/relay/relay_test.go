package relay_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/store"
)

const topic = "outbound.slack"

// broker stands in for Kafka: what it was given, and what it does with the next batches.
type broker struct {
	mu   sync.Mutex
	logs map[int][]*pb.Command
	// calls decides about each batch: whether it lands, and whether that is told. Nil: both.
	calls func(partition int) (lands, told bool)
	// held, where not nil, is waited for before a batch lands.
	held, reached chan struct{}
}

var errAway = errors.New("away")

func (b *broker) PartitionFor(_ context.Context, _, key string) (int, error) {
	return int(key[len(key)-1]) % 2, nil
}

func (b *broker) PublishPartition(ctx context.Context, _ string, partition int, msgs []bus.Message) error {
	b.mu.Lock()
	held, reached := b.held, b.reached
	b.held, b.reached = nil, nil
	b.mu.Unlock()
	if held != nil {
		close(reached)
		<-held
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	lands, told := true, true
	if b.calls != nil {
		lands, told = b.calls(partition)
	}
	size := 0
	for _, m := range msgs {
		c := &pb.Command{}
		if err := proto.Unmarshal(m.Value, c); err != nil {
			return err
		}
		if size += m.Size(); size > bus.MaxBatchBytes {
			return bus.ErrTooLarge
		}
		if lands {
			b.logs[partition] = append(b.logs[partition], c)
		}
	}
	if !told {
		return errAway
	}
	return nil
}

// taken is what a consumer takes that drops positions not above its last: the commands' ids by partition.
func (b *broker) taken() map[int][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[int][]string{}
	for partition, log := range b.logs {
		last := int64(0)
		for _, c := range log {
			if c.Position > last {
				taken[partition], last = append(taken[partition], c.Id), c.Position
			}
		}
	}
	return taken
}

// outbox is a database with a broker before it.
type outbox struct {
	testing.TB
	db  *sqldb.DB
	b   *broker
	now time.Time
	mu  sync.Mutex
	n   int
	// written ids by partition, in the order in which they were committed.
	written map[int][]string
}

func newOutbox(t testing.TB, db *sqldb.DB) *outbox {
	t.Helper()
	o := &outbox{TB: t, db: db, b: &broker{logs: map[int][]*pb.Command{}}, now: time.UnixMicro(1_700_000_000_000_000), written: map[int][]string{}}
	o.exec("DELETE FROM outbox")
	o.exec("DELETE FROM leases")
	return o
}

func each(t *testing.T, test func(t *testing.T, o *outbox)) {
	t.Helper()
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, newOutbox(t, db)) })
}

func (o *outbox) time() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

func (o *outbox) pass(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(d)
}

func (o *outbox) clock() *clock.Clock { return &clock.Clock{Local: o.time} }

// relay is another process's.
func (o *outbox) relay(b relay.Publisher) *relay.Relay {
	o.Helper()
	r, err := relay.New(o.db, b, o.clock(), telemetry.Discard(), 10*time.Millisecond, "", func() {})
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { _ = r.Close() })
	return r
}

func (o *outbox) exec(query string, args ...any) {
	o.Helper()
	if err := o.db.Tx(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}); err != nil {
		o.Fatal(err)
	}
}

func (o *outbox) count(query string, args ...any) (n int) {
	o.Helper()
	if err := o.db.View(context.Background(), func(tx *sql.Tx) error { return tx.QueryRow("SELECT COUNT(*) FROM "+query, args...).Scan(&n) }); err != nil {
		o.Fatal(err)
	}
	return n
}

// write commits some commands in one transaction.
func (o *outbox) write(n, size int) {
	o.Helper()
	var entries []store.Entry
	for range n {
		o.n++
		id := fmt.Sprintf("command-%06d", o.n)
		key := fmt.Sprint("conversation-", o.n%4)
		entries = append(entries, store.Entry{ID: id, Topic: topic, Key: key, Type: "command",
			Payload: &pb.Command{Id: id, ConversationKey: key, Content: &pb.SealedPart{Ciphertext: make([]byte, size)}}})
		p, _ := o.b.PartitionFor(context.Background(), topic, key)
		o.written[p] = append(o.written[p], id)
	}
	if err := o.db.Tx(context.Background(), func(tx *sql.Tx) error {
		return store.Append(context.Background(), tx, o.time().UnixMicro(), entries...)
	}); err != nil {
		o.Fatal(err)
	}
}

// same checks that a consumer has taken each command once, in the order of the commits.
func (o *outbox) same(t interface{ Fatalf(string, ...any) }) {
	o.Helper()
	taken := o.b.taken()
	for partition, want := range o.written {
		if !slices.Equal(taken[partition], want) {
			t.Fatalf("of partition %d a consumer takes %v, want %v", partition, taken[partition], want)
		}
	}
}

// drain relays until all is published.
func (o *outbox) drain(r *relay.Relay) {
	o.Helper()
	o.b.mu.Lock()
	o.b.calls = nil
	o.b.mu.Unlock()
	for range 50 {
		if _, err := r.Once(context.Background()); err != nil {
			o.Fatal(err)
		}
		if o.count("outbox WHERE published_us IS NULL") == 0 {
			return
		}
		o.pass(time.Minute) // past anybody's lease
	}
	o.Fatal("the outbox never empties")
}

func TestWhereverARelayDiesEachCommandIsTakenOnceAndInOrder(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			if runs++; db.Dialect() == "postgres" && runs > 15 {
				return // each costs more there, and differs in locks alone
			}
			o := newOutbox(t, db)
			relays := []*relay.Relay{o.relay(o.b), o.relay(o.b)}
			for range rapid.IntRange(5, 25).Draw(rt, "steps") {
				switch rapid.IntRange(0, 4).Draw(rt, "step") {
				case 0:
					o.write(rapid.IntRange(1, 6).Draw(rt, "commands"), rapid.SampledFrom([]int{10, 400_000}).Draw(rt, "size"))
				case 1: // one that died is another, with another token
					relays[rapid.IntRange(0, 1).Draw(rt, "relay")] = o.relay(o.b)
				case 2:
					o.pass(time.Duration(rapid.IntRange(0, 15).Draw(rt, "seconds")) * time.Second)
				default:
					faults := rapid.SliceOfN(rapid.IntRange(0, 4), 3, 3).Draw(rt, "faults")
					call := 0
					o.b.calls = func(int) (lands, told bool) { // killed before it published, or before it could note that
						call++
						fault := faults[call%len(faults)]
						return fault != 1, fault > 1
					}
					if _, err := relays[rapid.IntRange(0, 1).Draw(rt, "relay")].Once(context.Background()); err != nil && !errors.Is(err, errAway) {
						rt.Fatal(err)
					}
				}
			}
			o.drain(relays[0])
			o.same(rt)
		})
	})
}

func TestAZombieRelayPlacesNothingAndDoublesHarmlessly(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		zombie, other := o.relay(o.b), o.relay(o.b)
		o.write(1, 10)
		o.b.held, o.b.reached = make(chan struct{}), make(chan struct{})
		held, reached := o.b.held, o.b.reached
		ended := make(chan error, 1)
		go func() {
			_, err := zombie.Once(context.Background())
			ended <- err
		}()
		<-reached // its batch is on its way
		if _, err := other.Once(context.Background()); err != nil || len(o.b.taken()) != 0 {
			t.Fatalf("a second relay at work beside the lease's holder: %v", err)
		}
		o.pass(time.Minute) // the zombie is stopped for longer than its lease
		o.write(5, 10)
		if _, err := other.Once(context.Background()); err != nil {
			t.Fatal(err)
		}
		close(held)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		o.write(1, 10)
		if again, err := zombie.Once(context.Background()); again || err != nil || o.count("outbox WHERE position IS NULL") != 1 {
			t.Fatalf("a zombie gave a position: %v", err)
		}
		o.drain(other)
		o.same(t)
	})
}

func TestPositionsRiseAfterARestore(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		o.write(4, 10)
		o.drain(o.relay(o.b))
		backup := o.count("outbox")
		o.pass(time.Second)
		o.write(4, 10)
		o.drain(o.relay(o.b))
		// Back to the backup: what was written since is unknown, and so is its position.
		o.exec("DELETE FROM outbox WHERE id > $1", fmt.Sprintf("command-%06d", backup))
		o.exec("UPDATE leases SET until_us = 0, position = (SELECT MAX(position) FROM outbox)")
		o.pass(time.Second)
		o.write(4, 10)
		o.drain(o.relay(o.b))
		o.same(t)
	})
}

func TestOneStuckPartitionHoldsUpNoOther(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		r := o.relay(o.b)
		o.b.calls = func(partition int) (lands, told bool) { return partition != 0, partition != 0 }
		o.write(8, 10)
		if _, err := r.Once(context.Background()); !errors.Is(err, errAway) {
			t.Fatalf("got %v", err)
		}
		if taken := o.b.taken(); len(taken[0]) != 0 || len(taken[1]) != 4 {
			t.Errorf("taken: %v", taken)
		}
		o.drain(r)
		o.same(t)
	})
}

func TestWhatIsPublishedIsKeptSevenDaysAndWhatIsNotForEver(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		r := o.relay(o.b)
		o.write(3, 10)
		o.drain(r)
		o.b.calls = func(int) (lands, told bool) { return false, false }
		o.write(2, 10)
		_, _ = r.Once(context.Background())
		prune := func() int {
			if more, err := r.Prune(context.Background()); more || err != nil {
				t.Fatalf("more: %v, %v", more, err)
			}
			return o.count("outbox")
		}
		o.pass(relay.Retention - time.Hour)
		if n := prune(); n != 5 {
			t.Errorf("%d rows after less than seven days", n)
		}
		o.pass(2 * time.Hour)
		if n := prune(); n != 2 {
			t.Errorf("%d rows after seven days: what was never published must stay", n)
		}
	})
}

// Two relays take turns on a real broker while commands are written; each is killed now and then.
func TestRelaysOnABrokerKeepTheOrder(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: topic, Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		o := newOutbox(t, sqltest.SQLite(t, store.Migrations()))
		consumer := &broker{logs: map[int][]*pb.Command{}}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() {
			_ = b.Subscribe(ctx, bus.Subscription{Group: "egress", Topics: []string{topic}, Handle: func(_ context.Context, batch []bus.Record) error {
				consumer.mu.Lock()
				defer consumer.mu.Unlock()
				for _, r := range batch {
					c := &pb.Command{}
					if err := proto.Unmarshal(r.Value, c); err != nil {
						return err
					}
					consumer.logs[r.Partition] = append(consumer.logs[r.Partition], c)
				}
				return nil
			}})
		})
		const rounds, some = 6, 120
		for round := range rounds {
			life, kill := context.WithCancel(ctx)
			var relays sync.WaitGroup
			for _, r := range []*relay.Relay{o.relay(b), o.relay(b)} {
				relays.Go(func() { _ = r.Run(life) })
			}
			o.write(some, 2000)
			if round == rounds-1 {
				bustest.Eventually(t, "all is published", func() bool { return o.count("outbox WHERE published_us IS NULL") == 0 })
			}
			kill()
			relays.Wait()
			o.pass(time.Minute)
		}
		bustest.Eventually(t, "all is taken", func() bool {
			n := 0
			for _, ids := range consumer.taken() {
				n += len(ids)
			}
			return n == rounds*some
		})
		for partition, ids := range consumer.taken() {
			if !slices.IsSorted(ids) {
				t.Errorf("partition %d: %v", partition, ids)
			}
		}
	})
}
