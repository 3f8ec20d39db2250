package seal

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc/status"
)

type meters struct {
	lookups metric.Int64Counter
	calls   metric.Float64Histogram
}

func newMeters(m metric.Meter) meters {
	if m == nil {
		m = noop.NewMeterProvider().Meter("")
	}
	// An instrument that can't be made is a no-op: the names are constants, so nothing else can fail.
	lookups, _ := m.Int64Counter("tributary_key_lookups", metric.WithDescription("Look-ups of identities and keys, by cache and result."))
	calls, _ := m.Float64Histogram("tributary_registry_call_seconds", metric.WithDescription("Calls to the key registry, by method and code."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5))
	return meters{lookups, calls}
}

func (m meters) looked(ctx context.Context, cache string, hits, misses int) {
	count := func(result string, n int) {
		if n > 0 {
			m.lookups.Add(ctx, int64(n), metric.WithAttributes(attribute.String("cache", cache), attribute.String("result", result)))
		}
	}
	count("hit", hits)
	count("miss", misses)
}

func (m meters) called(ctx context.Context, method string, took time.Duration, err error) {
	m.calls.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("method", method), attribute.String("code", status.Code(err).String())))
}
