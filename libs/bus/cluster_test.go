package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
)

func TestThreeBrokers(t *testing.T) {
	cluster := broker(t, kfake.NumBrokers(3))
	c := &bustest.Cluster{Addrs: cluster.ListenAddrs()}
	b := c.Open(t)
	if err := b.EnsureTopics(t.Context(), bus.Topic{Name: "events"}); err != nil {
		t.Fatal(err)
	}
	info := cluster.TopicInfo("events")
	for name, want := range map[string]string{"min.insync.replicas": "2", "unclean.leader.election.enable": "false"} {
		if got := info.Configs[name]; got == nil || *got != want {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}

	// Leaders move while records are published and handled.
	handled := make(chan string, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Subscribe(ctx, bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(_ context.Context, batch []bus.Record) error {
			for _, r := range batch {
				handled <- string(r.Value)
			}
			return nil
		}})
	}()
	defer func() { cancel(); <-ended }()
	missing := map[string]bool{}
	for round := range 3 {
		for partition := range int32(4) {
			if err := cluster.MoveTopicPartition("events", partition, int32(round)); err != nil {
				t.Fatal(err)
			}
			value := string(rune('a'+round)) + string('0'+partition)
			missing[value] = true
			bustest.Eventually(t, "publishing succeeds after a leader moved", func() bool {
				return b.Publish(t.Context(), bus.Message{Topic: "events", Key: value, Value: []byte(value)}) == nil
			})
		}
	}
	for len(missing) > 0 {
		select {
		case value := <-handled:
			delete(missing, value)
		case <-time.After(30 * time.Second):
			t.Fatalf("not handled: %v", missing)
		}
	}
}
