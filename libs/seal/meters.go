package seal

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc/status"

	"tributary.dev/libs/telemetry"
)

type meters struct {
	lookups *telemetry.Tally[lookup]
	calls   metric.Float64Histogram
}

// lookup is one in a cache, which had the answer or had not.
type lookup struct{ cache, result string }

func newMeters(m metric.Meter) meters {
	if m == nil {
		m = noop.NewMeterProvider().Meter("")
	}
	// An instrument that can't be made is a no-op: the names are constants, so nothing else can fail.
	lookups, _ := telemetry.NewTally(m, "tributary_key_lookups", "Look-ups of identities and keys, by cache and result.", func(l lookup) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("cache", l.cache), attribute.String("result", l.result)}
	})
	calls, _ := m.Float64Histogram("tributary_registry_call_seconds", metric.WithDescription("Calls to the key registry, by method and code."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5))
	return meters{lookups, calls}
}

func (m meters) looked(cache string, hits, misses int) {
	m.lookups.Add(lookup{cache, "hit"}, hits)
	m.lookups.Add(lookup{cache, "miss"}, misses)
}

func (m meters) called(ctx context.Context, method string, took time.Duration, err error) {
	m.calls.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("method", method), attribute.String("code", status.Code(err).String())))
}
