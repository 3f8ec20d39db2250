// Package bustest is the kit for whoever uses a bus: Each runs a test on the embedded broker, and on
// real Kafka where TRIBUTARY_TEST_KAFKA names one; Proxy stands between a bus and its broker and breaks
// what networks break; Run is what any broker must pass.
package bustest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/devbroker"
)

// KafkaEnv names the setting with the brokers (host:port, comma-separated) of a real Kafka.
const KafkaEnv = "TRIBUTARY_TEST_KAFKA"

// Cluster is brokers, and topics and groups that are this test's alone.
type Cluster struct {
	Addrs  []string
	Prefix string
	// Restart stops the broker, calls between (which may be nil), and starts it again with its data on
	// the same address. Nil: the broker is shared with others.
	Restart func(t testing.TB, between func())
	// Clean applies retention and compaction at once. Nil: the broker does so when it does.
	Clean func()
}

// Each runs test on the embedded broker and on real Kafka, each time with an empty bus.
func Each(t *testing.T, test func(t *testing.T, b *bus.Bus)) {
	t.Helper()
	EachCluster(t, func(t *testing.T, c *Cluster) { test(t, c.Open(t)) })
}

// EachCluster is Each for tests with several buses on the same topics.
func EachCluster(t *testing.T, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, EmbeddedCluster(t)) })
	t.Run("kafka", func(t *testing.T) { test(t, KafkaCluster(t)) })
}

// Embedded is a bus on an embedded broker of its own.
func Embedded(t testing.TB) *bus.Bus {
	t.Helper()
	return EmbeddedCluster(t).Open(t)
}

// EmbeddedCluster is an embedded broker of this test's own, on disk.
func EmbeddedCluster(t testing.TB) *Cluster {
	t.Helper()
	cfg := devbroker.Config{Dir: t.TempDir(), Log: logTo(t)}
	broker, err := devbroker.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = broker.Addr()
	t.Cleanup(func() { broker.Close() })
	return &Cluster{
		Addrs:  []string{broker.Addr()},
		Prefix: "test.",
		Clean:  func() { broker.Clean() },
		Restart: func(t testing.TB, between func()) {
			t.Helper()
			broker.Close()
			if between != nil {
				between()
			}
			Eventually(t, "the broker starts again", func() bool {
				again, err := devbroker.Start(context.Background(), cfg)
				if err == nil {
					broker = again
				}
				return err == nil
			})
		},
	}
}

// KafkaCluster is the real Kafka with a prefix of this test's own; without one the test is skipped, but
// fails where CI is true.
func KafkaCluster(t testing.TB) *Cluster {
	t.Helper()
	addrs := os.Getenv(KafkaEnv)
	if addrs == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal(KafkaEnv + " is not set, and CI needs Kafka: run `make services`")
		}
		t.Skip("NOT RUN on Kafka: " + KafkaEnv + " is not set (`make services` starts one)")
	}
	c := &Cluster{Addrs: strings.Split(addrs, ","), Prefix: "test-" + Random() + "."}
	t.Cleanup(func() { c.deleteTopics(t) })
	return c
}

// Open opens a bus that is closed with the test; change may alter its configuration.
func (c *Cluster) Open(t testing.TB, change ...func(*bus.Config)) *bus.Bus {
	t.Helper()
	cfg := bus.Config{Brokers: c.Addrs, Prefix: c.Prefix, ClientID: "test", Partitions: 4, Log: logTo(t)}
	for _, f := range change {
		f(&cfg)
	}
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
	})
	return b
}

// deleteTopics leaves the shared Kafka as it was; commits go with the topics.
func (c *Cluster) deleteTopics(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := DeleteTopics(ctx, c.Addrs, c.Prefix); err != nil {
		t.Logf("topics are left behind: %v", err)
	}
}

// DeleteTopics deletes all topics whose names begin with prefix.
func DeleteTopics(ctx context.Context, brokers []string, prefix string) error {
	client := &kafka.Client{Addr: kafka.TCP(brokers...), Transport: &kafka.Transport{}}
	defer client.Transport.(*kafka.Transport).CloseIdleConnections()
	found, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	var mine []string
	for _, topic := range found.Topics {
		if strings.HasPrefix(topic.Name, prefix) {
			mine = append(mine, topic.Name)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	_, err = client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: mine})
	return err
}

// Eventually waits until done, failing the test after 30 s.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Random is 8 hex digits.
func Random() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// logTo shows warnings where a test fails or is verbose.
func logTo(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}
