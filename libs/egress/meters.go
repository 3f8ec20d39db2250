package egress

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	pb "tributary.dev/proto/gen/tributary/v1"
)

type meters struct {
	channel     attribute.KeyValue
	sends       metric.Int64Counter
	drops       metric.Int64Counter
	taken       metric.Int64UpDownCounter
	pacingWaits metric.Float64Histogram
	fetches     metric.Int64Counter
}

func newMeters(m metric.Meter, channel string) (*meters, error) {
	var faults [5]error
	ms := &meters{channel: attribute.String("channel", channel)}
	ms.sends, faults[0] = m.Int64Counter("tributary_sends", metric.WithDescription("Commands ended by egress, by status and error class."))
	ms.drops, faults[1] = m.Int64Counter("tributary_commands_dropped", metric.WithDescription("Commands not taken: position (published twice), unreadable."))
	ms.taken, faults[2] = m.Int64UpDownCounter("tributary_sends_outstanding", metric.WithDescription("Commands taken and not yet reported."))
	ms.pacingWaits, faults[3] = m.Float64Histogram("tributary_pacing_wait_seconds", metric.WithDescription("Waits for a provider's limit."),
		metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2, 5))
	ms.fetches, faults[4] = m.Int64Counter("tributary_fetches", metric.WithDescription("Attachments and profiles fetched, by result."))
	return ms, errors.Join(faults[:]...)
}

func (m *meters) sent(ctx context.Context, r *pb.Receipt) {
	m.sends.Add(ctx, 1, metric.WithAttributes(m.channel, attribute.String("status", word(r.GetStatus())),
		attribute.String("class", strings.ToLower(strings.TrimPrefix(r.GetErrorClass().String(), "ERROR_CLASS_")))))
}

func (m *meters) dropped(ctx context.Context, reason string) {
	m.drops.Add(ctx, 1, metric.WithAttributes(m.channel, attribute.String("reason", reason)))
}

func (m *meters) outstanding(n int64) {
	m.taken.Add(context.Background(), n, metric.WithAttributes(m.channel))
}

func (m *meters) paced(ctx context.Context, wait time.Duration) {
	m.pacingWaits.Record(ctx, wait.Seconds(), metric.WithAttributes(m.channel))
}

func (m *meters) fetched(ctx context.Context, kind, result string) {
	m.fetches.Add(ctx, 1, metric.WithAttributes(m.channel, attribute.String("kind", kind), attribute.String("result", result)))
}
