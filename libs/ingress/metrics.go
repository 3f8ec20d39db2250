package ingress

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/telemetry"
)

// metrics of one channel's ingress: counts by reason and type, never by person or account.
type metrics struct {
	channel attribute.KeyValue

	// What every request counts.
	accepted  *telemetry.Tally[struct{}]
	published *telemetry.Tally[channel.Type]

	refused, unknown, faults, spooled, drained, setAside, unconnected, noSubject, erased, damage metric.Int64Counter

	registered metric.Registration
}

func newMetrics(meter metric.Meter, name string, s *spool.Spool, c *clock.Clock) (*metrics, error) {
	m := &metrics{channel: attribute.String("channel", name)}
	var faults []error
	var err error
	m.accepted, err = telemetry.NewTally(meter, "tributary_webhooks_accepted_total", "Requests answered 2xx.", func(struct{}) []attribute.KeyValue {
		return []attribute.KeyValue{m.channel}
	})
	faults = append(faults, err)
	m.published, err = telemetry.NewTally(meter, "tributary_events_published_total", "Events acknowledged by the brokers, by type.", func(t channel.Type) []attribute.KeyValue {
		return []attribute.KeyValue{m.channel, typed(string(t))}
	})
	faults = append(faults, err)
	for _, counter := range []struct {
		into              *metric.Int64Counter
		name, description string
	}{
		{&m.refused, "tributary_webhooks_refused_total", "Requests refused, by reason."},
		{&m.unknown, "tributary_unknown_events_total", "Items of a type that the channel does not know, by the provider's type."},
		{&m.faults, "tributary_unreadable_items_total", "Items of a request that could not be read, by class."},
		{&m.spooled, "tributary_events_spooled_total", "Events made durable in the spool."},
		{&m.drained, "tributary_events_drained_total", "Events of the spool that were published."},
		{&m.setAside, "tributary_events_set_aside_total", "Events set aside on the volume for a fault of their data, by reason. More than none needs a person."},
		{&m.unconnected, "tributary_events_unconnected_total", "Events of accounts that are not connected, or disabled."},
		{&m.noSubject, "tributary_events_no_subject_total", "Events dropped because nobody knows the person, by type."},
		{&m.erased, "tributary_events_erased_total", "Events of persons erased after they acted: only their ids were kept."},
		{&m.damage, "tributary_spool_damaged_bytes_total", "Bytes of the spool that could not be read back. More than none needs a person."},
	} {
		var err error
		*counter.into, err = meter.Int64Counter(counter.name, metric.WithDescription(counter.description))
		faults = append(faults, err)
	}
	size, err := meter.Int64ObservableGauge("tributary_spool_bytes", metric.WithUnit("By"), metric.WithDescription("Size of the spool on disk, by part: entries, aside."))
	faults = append(faults, err)
	lag, err := meter.Float64ObservableGauge("tributary_spool_lag_seconds", metric.WithUnit("s"), metric.WithDescription("Age of the oldest entry in the spool. At seven days requests are refused."))
	faults = append(faults, err)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	m.registered, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		segments, aside := s.Bytes()
		o.ObserveInt64(size, segments, metric.WithAttributes(m.channel, attribute.String("part", "entries")))
		o.ObserveInt64(size, aside, metric.WithAttributes(m.channel, attribute.String("part", "aside")))
		o.ObserveFloat64(lag, spoolLag(s, c).Seconds(), metric.WithAttributes(m.channel))
		return nil
	}, size, lag)
	return m, err
}

func (m *metrics) close() error {
	return errors.Join(m.registered.Unregister(), m.accepted.Close(), m.published.Close())
}

func (m *metrics) add(ctx context.Context, counter metric.Int64Counter, n int, labels ...attribute.KeyValue) {
	if n > 0 {
		counter.Add(ctx, int64(n), metric.WithAttributes(append(labels, m.channel)...))
	}
}

func reason(word string) attribute.KeyValue { return attribute.String("reason", label(word)) }

func typed(word string) attribute.KeyValue { return attribute.String("type", label(word)) }

// label makes a metric's label of a word of a provider's vocabulary; what does not look like one is
// "other".
func label(word string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_./-"
	if word == "" || len(word) > 64 || strings.Trim(word, letters) != "" {
		return "other"
	}
	return word
}

// spoolLag is the age of the oldest entry.
func spoolLag(s *spool.Spool, c *clock.Clock) time.Duration {
	oldest, ok := s.Oldest()
	if !ok {
		return 0
	}
	return max(0, c.Now().Sub(oldest))
}
