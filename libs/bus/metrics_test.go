package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
)

func TestMetrics(t *testing.T) {
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	b := bustest.EmbeddedCluster(t).Open(t, func(cfg *bus.Config) { cfg.Meter = provider.Meter("test") })
	if err := b.EnsureTopics(t.Context(), bus.Topic{Name: "events", Partitions: 1}, bus.Topic{Name: "apps", Compacted: true}); err != nil {
		t.Fatal(err)
	}
	value := func(name string, labels ...string) int64 {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		return sum(all, name, labels)
	}

	var healthy atomic.Bool
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Subscribe(ctx, bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(_ context.Context, batch []bus.Record) error {
			if !healthy.Load() {
				return errors.New("store is away")
			}
			for _, r := range batch {
				if string(r.Value) == "bad" {
					return bus.DataFault("undecodable", errors.New("no protobuf"))
				}
			}
			return nil
		}})
	}()
	defer func() { cancel(); <-ended }()
	for _, v := range []string{"good", "bad", "good"} {
		if err := b.Publish(t.Context(), bus.Message{Topic: "events", Key: "k", Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish(t.Context(), bus.Message{Topic: "events", Key: "k", Value: make([]byte, bus.MaxValueBytes+1)}); err == nil {
		t.Fatal("published what is too large")
	}
	bustest.Eventually(t, "the partition is reported as stopped", func() bool {
		return value("tributary_stopped_partitions", "topic=events", "group=g", "reason=handler") == 1
	})
	if lag := value("tributary_consumer_lag_records", "topic=events", "group=g"); lag != 3 {
		t.Errorf("lag is %d, want 3", lag)
	}
	healthy.Store(true)
	bustest.Eventually(t, "the partition is reported as moving, without lag", func() bool {
		return value("tributary_stopped_partitions", "reason=handler") == 0 && value("tributary_consumer_lag_records", "topic=events") == 0
	})
	for name, want := range map[string]int64{
		"tributary_dead_letters_total":     1,
		"tributary_publish_failures_total": 1,
		"tributary_published_total":        4,
		"tributary_rebalances_total":       1,
		"tributary_inflight_bytes":         0,
	} {
		if got := value(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if value("tributary_dead_letters_total", "topic=events", "reason=undecodable") != 1 {
		t.Error("dead letters are not counted by topic and reason")
	}
}

// sum adds up the points of a metric that have all the labels ("name=value").
func sum(all metricdata.ResourceMetrics, name string, labels []string) int64 {
	var total int64
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				has := " "
				for _, kv := range p.Attributes.ToSlice() {
					has += string(kv.Key) + "=" + kv.Value.AsString() + " "
				}
				matches := true
				for _, label := range labels {
					matches = matches && strings.Contains(has, " "+label+" ")
				}
				if matches {
					total += p.Value
				}
			}
		}
	}
	return total
}
