package project_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// handled notes which records a group has handled.
type handled struct {
	mu      sync.Mutex
	records map[string]bool
}

func (h *handled) note(handle func(context.Context, []bus.Record) error) func(context.Context, []bus.Record) error {
	return func(ctx context.Context, batch []bus.Record) error {
		err := handle(ctx, batch)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range batch {
			if err == nil {
				h.records[fmt.Sprint(r.Topic, r.Partition, "/", r.Offset)] = true
			}
		}
		return err
	}
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.records)
}

// Two members of the group handle partitions side by side, and events lie in whichever partition chance
// gave them: so every lock that two events can meet at is met.
func TestConsumersSideBySideGiveTheSameConversations(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		cluster := bustest.EmbeddedCluster(t)
		w := world{projecttest.New(t, db)}
		b := cluster.Open(t)
		const topic = "inbound.slack"
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: topic}); err != nil {
			t.Fatal(err)
		}
		done := &handled{records: map[string]bool{}}
		ctx, stop := context.WithCancel(t.Context())
		var members sync.WaitGroup
		defer members.Wait()
		defer stop()
		for _, member := range []*bus.Bus{b, cluster.Open(t)} {
			members.Go(func() {
				_ = member.Subscribe(ctx, bus.Subscription{Group: "conversation", Topics: []string{topic}, MaxBatch: 7, Handle: done.note(w.Handle)})
			})
		}
		published := 0
		for seed := range 12 {
			events := rapid.Custom(w.story).Example(seed)
			want := w.told(events)
			w.Empty()
			w.open()
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			shuffled := append([]*pb.ChannelEvent(nil), events...)
			for range len(events) / 2 {
				shuffled = append(shuffled, events[random.IntN(len(events))])
			}
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			var msgs []bus.Message
			for _, e := range shuffled {
				msgs = append(msgs, bus.Message{Topic: topic, Key: fmt.Sprint(random.IntN(100)), Value: projecttest.Record(t, e).Value})
			}
			if err := b.Publish(t.Context(), msgs...); err != nil {
				t.Fatal(err)
			}
			published += len(msgs)
			bustest.Eventually(t, "all events are projected", func() bool { return done.count() == published })
			if got := apitest.Dump(w, w.Routes, projecttest.Workspace); !bytes.Equal(got, want) {
				t.Fatalf("seed %d:\n%s", seed, diff(want, got))
			}
		}
	})
}
