package bustest

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tributary.dev/libs/bus"
)

// deleteRecords moves the start of a partition's log to offset, as retention would.
func (c *Cluster) deleteRecords(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	of := kmsg.NewDeleteRecordsRequestTopic()
	of.Topic, of.Partitions = c.Prefix+topic, append(of.Partitions, p)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = append(req.Topics, of)
	req.TimeoutMillis = 5000
	res, err := req.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if code := res.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("deleting records: error %d", code)
	}
}

// count is how many records of a partition are left below end.
func (c *Cluster) count(t testing.TB, topic string, partition int32, end int64) int {
	t.Helper()
	name := c.Prefix + topic
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		name: {partition: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := withTimeout(t, 10_000)
	defer cancel()
	for n := 0; ; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		var last int64
		fetches.EachRecord(func(r *kgo.Record) { n++; last = r.Offset })
		if last >= end-1 {
			return n
		}
	}
}

// settings of a topic, as the broker has them.
func (c *Cluster) settings(t testing.TB, topic string) map[string]string {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(c.Addrs...), Transport: transport}
	res, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Prefix + topic},
	}})
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, entry := range res.Resources[0].ConfigEntries {
		settings[entry.ConfigName] = entry.ConfigValue
	}
	return settings
}

// alarms keeps what a bus logs.
type alarms struct {
	mu   sync.Mutex
	text strings.Builder
}

func (a *alarms) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.Write(line)
}

func (a *alarms) has(part string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(a.text.String(), part)
}

func (a *alarms) to(cfg *bus.Config) { cfg.Log = slog.New(slog.NewTextHandler(a, nil)) }

func withTimeout(t testing.TB, millis int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Duration(millis)*time.Millisecond)
}
