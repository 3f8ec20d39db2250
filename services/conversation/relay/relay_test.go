package relay_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// place is a partition of a topic.
type place struct {
	topic     string
	partition int
}

// published is what a command or an event became.
type published struct {
	id       string
	position int64
}

func read(topic string, value []byte) (p published, err error) {
	if topic == store.TopicConversations {
		var e pb.ConversationEvent
		err = proto.Unmarshal(value, &e)
		return published{e.MessageId, e.Position}, err
	}
	var c pb.Command
	err = proto.Unmarshal(value, &c)
	return published{c.Id, c.Position}, err
}

// broker stands in for Kafka: what it was given, and what it does with the next batches.
type broker struct {
	mu   sync.Mutex
	logs map[place][]published
	// calls decides about each batch: whether it lands, and whether that is told. Nil: both.
	calls func(partition int) (lands, told bool)
}

var errAway = errors.New("away")

func (b *broker) PartitionFor(_ context.Context, _, key string) (int, error) {
	return int(key[len(key)-1]) % 2, nil
}

func (b *broker) PublishPartitions(_ context.Context, topic string, msgs map[int][]bus.Message) map[int]error {
	failed := map[int]error{}
	for _, p := range slices.Sorted(maps.Keys(msgs)) {
		if err := b.publish(topic, p, msgs[p]); err != nil {
			failed[p] = err
		}
	}
	return failed
}

func (b *broker) publish(topic string, partition int, msgs []bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	lands, told := true, true
	if b.calls != nil {
		lands, told = b.calls(partition)
	}
	size := 0
	for _, m := range msgs {
		p, err := read(topic, m.Value)
		if err != nil {
			return err
		}
		if size += m.Size(); size > bus.MaxBatchBytes {
			return bus.ErrTooLarge
		}
		if lands {
			at := place{topic, partition}
			b.logs[at] = append(b.logs[at], p)
		}
	}
	if !told {
		return errAway
	}
	return nil
}

// slow lets nothing land before held is closed; reached is closed when something is about to.
type slow struct {
	*broker
	once          sync.Once
	held, reached chan struct{}
}

func (b *slow) PublishPartitions(ctx context.Context, topic string, msgs map[int][]bus.Message) map[int]error {
	b.once.Do(func() { close(b.reached) })
	<-b.held
	return b.broker.PublishPartitions(ctx, topic, msgs)
}

// taken is what a consumer takes that drops positions not above its last: ids by partition.
func (b *broker) taken() map[place][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[place][]string{}
	for at, log := range b.logs {
		last := int64(0)
		for _, p := range log {
			if p.position > last {
				taken[at], last = append(taken[at], p.id), p.position
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
	written map[place][]string
}

func newOutbox(t testing.TB, db *sqldb.DB) *outbox {
	t.Helper()
	o := &outbox{TB: t, db: db, b: &broker{logs: map[place][]published{}}, now: time.UnixMicro(1_700_000_000_000_000), written: map[place][]string{}}
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
	r, err := relay.New(o.db, b, o.clock(), telemetry.Discard(), 10*time.Millisecond, "", func(relay.Page) {})
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { _ = r.Close() })
	return r
}

func (o *outbox) exec(query string, args ...any) {
	o.Helper()
	if err := o.db.Tx(context.Background(), func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	}); err != nil {
		o.Fatal(err)
	}
}

func (o *outbox) count(query string, args ...any) (n int) {
	o.Helper()
	if err := o.db.View(context.Background(), func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM "+query, args...).Scan(&n)
	}); err != nil {
		o.Fatal(err)
	}
	return n
}

// write commits some commands, and as many events, in one transaction.
func (o *outbox) write(n, size int) {
	o.Helper()
	o.writeBy(nil, n, size)
}

// writeBy is write in a process whose relay may let the transaction place them.
func (o *outbox) writeBy(r *relay.Relay, n, size int) {
	o.Helper()
	var entries []store.Entry
	for range n {
		o.n++
		id := fmt.Sprintf("command-%06d", o.n)
		key := fmt.Sprint("conversation-", o.n%4)
		entries = append(entries, store.Entry{ID: id, Topic: topic, Key: key, Type: "command",
			Payload: &pb.Command{Id: id, ConversationKey: key, Content: &pb.SealedPart{Ciphertext: make([]byte, size)}}},
			store.Told(&pb.ConversationEvent{ConversationId: key, WorkspaceId: "workspace", MessageId: id}, ""))
		p, _ := o.b.PartitionFor(context.Background(), topic, key)
		for _, topic := range []string{topic, store.TopicConversations} {
			o.written[place{topic, p}] = append(o.written[place{topic, p}], id)
		}
	}
	if err := o.append(r, entries...); err != nil {
		o.Fatal(err)
	}
}

func (o *outbox) append(r *relay.Relay, entries ...store.Entry) error {
	ctx, turn := context.Background(), &store.Turn{}
	if r != nil {
		turn = r.Turn()
	}
	err := o.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var end int64
		if err := store.QueueEnd(ctx, tx, &end); err != nil {
			return err
		}
		if err := tx.Send(ctx); err != nil {
			return err
		}
		return store.AppendBehind(ctx, tx, turn, end, o.time().UnixMicro(), entries...)
	})
	if err == nil && r != nil {
		r.Committed(turn)
	}
	return err
}

// same checks that a consumer has taken each command and event once, in the order of the commits.
func (o *outbox) same(t interface{ Fatalf(string, ...any) }) {
	o.Helper()
	taken := o.b.taken()
	for at, want := range o.written {
		if !slices.Equal(taken[at], want) {
			t.Fatalf("of %v a consumer takes %v, want %v", at, taken[at], want)
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

func TestWhereverARelayDiesEachEntryIsTakenOnceAndInOrder(t *testing.T) {
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
					by := rapid.SampledFrom([]*relay.Relay{nil, relays[0], relays[1]}).Draw(rt, "by")
					o.writeBy(by, rapid.IntRange(1, 6).Draw(rt, "commands"), rapid.SampledFrom([]int{10, 400_000}).Draw(rt, "size"))
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
		b := &slow{broker: o.b, held: make(chan struct{}), reached: make(chan struct{})}
		zombie, other := o.relay(b), o.relay(o.b)
		o.write(1, 10)
		ended := make(chan error, 1)
		go func() {
			_, err := zombie.Once(context.Background())
			ended <- err
		}()
		<-b.reached // its batch is on its way
		if _, err := other.Once(context.Background()); err != nil || len(o.b.taken()) != 0 {
			t.Fatalf("a second relay at work beside the lease's holder: %v", err)
		}
		o.pass(time.Minute) // the zombie is stopped for longer than its lease
		o.write(5, 10)
		if _, err := other.Once(context.Background()); err != nil {
			t.Fatal(err)
		}
		close(b.held)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		o.write(1, 10)
		if again, err := zombie.Once(context.Background()); again || err != nil || o.count("outbox WHERE position IS NULL") != 2 {
			t.Fatalf("a zombie gave a position: %v", err)
		}
		o.drain(other)
		o.same(t)
	})
}

func TestATransactionPlacesWhatItAppendsWhereItOvertakesNothing(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		holder, other := o.relay(o.b), o.relay(o.b)
		placed := func(want int) {
			t.Helper()
			if n := o.count("outbox WHERE position IS NOT NULL"); n != want {
				t.Errorf("%d rows have positions, want %d", n, want)
			}
		}
		o.writeBy(holder, 1, 10) // it has the lease not yet
		placed(0)
		o.drain(holder)
		placed(2)
		o.writeBy(holder, 3, 10)
		placed(6)
		o.writeBy(other, 1, 10) // who has no lease leaves it to who has
		placed(6)
		o.writeBy(holder, 1, 10) // what waits goes first
		placed(6)
		o.drain(holder)
		o.pass(time.Minute)
		o.write(1, 10)
		for range 2 { // by its own watch, the other sees the lease for as long as one is
			if _, err := other.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			o.pass(time.Minute)
		}
		placed(12)
		o.writeBy(holder, 1, 10) // the zombie's token is void
		placed(12)
		o.drain(other)
		o.same(t)
	})
}

// Transactions that place by themselves and those that leave it to the relay, at once.
func TestTransactionsAtOnceHaveEachAPlaceOfTheirOwn(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		pages := make(chan relay.Page, 10_000)
		r, err := relay.New(o.db, o.b, o.clock(), telemetry.Discard(), 10*time.Millisecond, "", func(p relay.Page) { pages <- p })
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		o.write(1, 10)
		o.drain(r) // it has the lease
		life, end := context.WithCancel(t.Context())
		var running, writing sync.WaitGroup
		running.Go(func() { _ = r.Run(life) })
		const writers, each = 4, 25
		faults := make(chan error, writers)
		for writer := range writers {
			writing.Go(func() {
				for n := range each {
					id := fmt.Sprintf("%d-%04d", writer, n)
					if err := o.append(r, store.Told(&pb.ConversationEvent{ConversationId: fmt.Sprint("c-", writer), WorkspaceId: "w", MessageId: id}, ""),
						store.Told(&pb.ConversationEvent{ConversationId: fmt.Sprint("c-", writer), WorkspaceId: "v", MessageId: id}, "")); err != nil {
						faults <- err
						return
					}
				}
			})
		}
		writing.Wait()
		bustest.Eventually(t, "all is published", func() bool { return o.count("outbox WHERE published_us IS NULL") == 0 })
		end()
		running.Wait()
		close(faults)
		for err := range faults {
			t.Error(err)
		}
		// Every row was handed over once, behind the one before it, and each writer's in its order.
		close(pages)
		all := map[int64]relay.Page{}
		for p := range pages {
			all[p.From] = p
		}
		var last [2][writers]string
		rows := 0
		at := all[0].UpTo
		for {
			p, ok := all[at]
			if !ok {
				break
			}
			for _, row := range p.Rows {
				rows++
				e := &pb.ConversationEvent{}
				if err := proto.Unmarshal(row.Payload, e); err != nil || row.Position <= at || row.Position > p.UpTo {
					t.Fatalf("row at %d of a page from %d to %d: %v", row.Position, at, p.UpTo, err)
				}
				writer := e.GetMessageId()[0] - '0'
				workspace := map[string]int{"w": 0, "v": 1}[e.GetWorkspaceId()]
				if before := &last[workspace][writer]; e.GetMessageId() <= *before {
					t.Errorf("%s comes behind %s", e.GetMessageId(), *before)
				} else {
					*before = e.GetMessageId()
				}
			}
			at = p.UpTo
		}
		if rows != 2*writers*each || o.count("leases WHERE name = 'relay' AND position = $1", at) != 1 {
			t.Errorf("%d rows in one line of pages, want %d; the last ends at %d", rows, 2*writers*each, at)
		}
	})
}

func TestPositionsRiseAfterARestore(t *testing.T) {
	each(t, func(t *testing.T, o *outbox) {
		o.write(4, 10)
		o.drain(o.relay(o.b))
		restored := o.time().Add(time.Second / 2).UnixMicro()
		o.pass(time.Second)
		o.write(4, 10)
		o.drain(o.relay(o.b))
		// Back to the backup: what was written since is unknown, and so is its position.
		o.exec("DELETE FROM outbox WHERE seq > $1", restored)
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
		stuck, other := place{store.TopicConversations, 0}, place{store.TopicConversations, 1}
		if taken := o.b.taken(); len(taken[stuck]) != 0 || len(taken[other]) != 4 || len(taken[place{topic, 0}]) != 0 || len(taken[place{topic, 1}]) != 4 {
			t.Errorf("taken: %v", taken)
		}
		// What the other partition has is not sent to it again, though it stands in rows with what is stuck.
		if _, err := r.Once(context.Background()); !errors.Is(err, errAway) {
			t.Fatalf("got %v", err)
		}
		if n := len(o.b.logs[other]); n != 4 {
			t.Errorf("the other partition was sent %d events", n)
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
		if n := prune(); n != 7 { // 5 commands, and what was told in 2 transactions
			t.Errorf("%d rows after less than seven days", n)
		}
		o.pass(2 * time.Hour)
		if n := prune(); n != 3 {
			t.Errorf("%d rows after seven days: what was never published must stay", n)
		}
	})
}

// Two relays take turns on a real broker while commands are written; each is killed now and then.
func TestRelaysOnABrokerKeepTheOrder(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		topics := []string{topic, store.TopicConversations}
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: topics[0], Partitions: 2}, bus.Topic{Name: topics[1], Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		o := newOutbox(t, sqltest.SQLite(t, store.Migrations()))
		consumer := &broker{logs: map[place][]published{}}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() {
			_ = b.Subscribe(ctx, bus.Subscription{Group: "egress", Topics: topics, Handle: func(_ context.Context, batch []bus.Record) error {
				consumer.mu.Lock()
				defer consumer.mu.Unlock()
				for _, r := range batch {
					p, err := read(r.Topic, r.Value)
					if err != nil {
						return err
					}
					at := place{r.Topic, r.Partition}
					consumer.logs[at] = append(consumer.logs[at], p)
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
			return n == 2*rounds*some
		})
		for at, ids := range consumer.taken() {
			if !slices.IsSorted(ids) {
				t.Errorf("%v: %v", at, ids)
			}
		}
	})
}
