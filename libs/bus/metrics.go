package bus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics of one bus. Labels are topics, groups and short reasons.
type metrics struct {
	publishedTotal  metric.Int64Counter
	failuresTotal   metric.Int64Counter
	deadTotal       metric.Int64Counter
	rebalancesTotal metric.Int64Counter
	stoppedNow      metric.Int64UpDownCounter
	undecodable     metric.Int64Counter
	entries         metric.Int64Gauge
	close           func()

	mu sync.Mutex
	//bound:cache partitions whose lag is measured | those assigned | each goes with its generation
	watched map[watched]*Partition
}

type watched struct {
	group string
	at    topicPartition
}

func newMetrics(b *Bus, meter metric.Meter) (*metrics, error) {
	m := &metrics{watched: map[watched]*Partition{}}
	var faults [9]error
	m.publishedTotal, faults[0] = meter.Int64Counter("tributary_published_total", metric.WithDescription("Messages acknowledged by the brokers."))
	m.failuresTotal, faults[1] = meter.Int64Counter("tributary_publish_failures_total", metric.WithDescription("Messages whose publishing failed or is not known to have succeeded."))
	m.deadTotal, faults[2] = meter.Int64Counter("tributary_dead_letters_total", metric.WithDescription("Records set aside because they cannot be handled."))
	m.rebalancesTotal, faults[3] = meter.Int64Counter("tributary_rebalances_total", metric.WithDescription("Generations of a group that this member took part in."))
	m.stoppedNow, faults[4] = meter.Int64UpDownCounter("tributary_stopped_partitions", metric.WithDescription("Partitions that stand still: handler (it fails), dead_letter (it cannot be published), offset (not in the log)."))
	m.undecodable, faults[5] = meter.Int64Counter("tributary_table_undecodable_total", metric.WithDescription("Records of a table that could not be decoded and were skipped."))
	m.entries, faults[6] = meter.Int64Gauge("tributary_table_entries", metric.WithDescription("Entries of a table."))
	inFlight, err := meter.Int64ObservableGauge("tributary_inflight_bytes", metric.WithUnit("By"), metric.WithDescription("Bytes handed to the Kafka client and not yet acknowledged or given up."))
	faults[7] = err
	lag, err := meter.Int64ObservableGauge("tributary_consumer_lag_records", metric.WithDescription("Records not yet committed in the partitions that this member owns."))
	faults[8] = err
	if err := errors.Join(faults[:]...); err != nil {
		return nil, err
	}
	registered, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		o.ObserveInt64(inFlight, b.inFlight.Load())
		for of, behind := range m.lag(ctx, b) {
			o.ObserveInt64(lag, behind, metric.WithAttributes(attribute.String("topic", of.at.topic), attribute.String("group", of.group)))
		}
		return nil
	}, inFlight, lag)
	if err != nil {
		return nil, err
	}
	m.close = func() { _ = registered.Unregister() }
	return m, nil
}

// lag by group and topic (the partition of the key is 0), as of now; nothing while the brokers are away.
func (m *metrics) lag(ctx context.Context, b *Bus) map[watched]int64 {
	m.mu.Lock()
	owned := make(map[watched]int64, len(m.watched))
	for key, p := range m.watched {
		owned[key] = p.committed.Load()
	}
	m.mu.Unlock()

	distinct := map[topicPartition]bool{}
	var all []topicPartition
	for key := range owned {
		if !distinct[key.at] {
			distinct[key.at] = true
			all = append(all, key.at)
		}
	}
	//bound:timeout measuring lag | {} | no lag is shown
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	spans, err := b.spans(ctx, all)
	if err != nil {
		return nil
	}
	lag := map[watched]int64{}
	for key, committed := range owned {
		lag[watched{key.group, topicPartition{topic: key.at.topic}}] += max(0, spans[key.at].end-committed)
	}
	return lag
}

// watch counts the partition's lag until stop is called.
func (m *metrics) watch(group string, p *Partition) (stop func()) {
	key := watched{group, topicPartition{p.Topic, p.Partition}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched[key] = p
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.watched[key] == p {
			delete(m.watched, key)
		}
	}
}

func (m *metrics) published(ctx context.Context, topic string, n int) {
	m.publishedTotal.Add(ctx, int64(n), metric.WithAttributes(attribute.String("topic", topic)))
}

func (m *metrics) publishFailed(ctx context.Context, topic string, n int, err error) {
	reason := "error"
	var code kafka.Error
	switch {
	case errors.Is(err, ErrFull):
		reason = "full"
	case errors.Is(err, ErrTooLarge):
		reason = "too_large"
	case errors.Is(err, context.DeadlineExceeded):
		reason = "timeout"
	case errors.Is(err, context.Canceled):
		reason = "cancelled"
	case errors.As(err, &code):
		reason = "refused"
	}
	m.failuresTotal.Add(ctx, int64(n), metric.WithAttributes(attribute.String("topic", topic), attribute.String("reason", reason)))
}

func (m *metrics) died(ctx context.Context, topic, reason string) {
	m.deadTotal.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", topic), attribute.String("reason", reason)))
}

func (m *metrics) rebalanced(ctx context.Context, group string) {
	m.rebalancesTotal.Add(ctx, 1, metric.WithAttributes(attribute.String("group", group)))
}

// stopped counts a partition as standing still until resume is called.
func (m *metrics) stopped(topic, group, reason string) (resume func()) {
	of := metric.WithAttributes(attribute.String("topic", topic), attribute.String("group", group), attribute.String("reason", reason))
	m.stoppedNow.Add(context.Background(), 1, of)
	return func() { m.stoppedNow.Add(context.Background(), -1, of) }
}

func (m *metrics) tableUndecodable(ctx context.Context, topic string) {
	m.undecodable.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", topic)))
}

func (m *metrics) tableEntries(ctx context.Context, topic string, n int) {
	m.entries.Record(ctx, int64(n), metric.WithAttributes(attribute.String("topic", topic)))
}
