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
	// labels of look-ups by cache and whether it had the answer, made once.
	labels map[string][2]metric.MeasurementOption
}

func newMeters(m metric.Meter) meters {
	if m == nil {
		m = noop.NewMeterProvider().Meter("")
	}
	// An instrument that can't be made is a no-op: the names are constants, so nothing else can fail.
	lookups, _ := m.Int64Counter("tributary_key_lookups", metric.WithDescription("Look-ups of identities and keys, by cache and result."))
	calls, _ := m.Float64Histogram("tributary_registry_call_seconds", metric.WithDescription("Calls to the key registry, by method and code."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5))
	labels := map[string][2]metric.MeasurementOption{}
	for _, cache := range []string{"identity", "key"} {
		of := func(result string) metric.MeasurementOption {
			return metric.WithAttributes(attribute.String("cache", cache), attribute.String("result", result))
		}
		labels[cache] = [2]metric.MeasurementOption{of("hit"), of("miss")}
	}
	return meters{lookups, calls, labels}
}

func (m meters) looked(ctx context.Context, cache string, hits, misses int) {
	for i, n := range []int{hits, misses} {
		if n > 0 {
			m.lookups.Add(ctx, int64(n), m.labels[cache][i])
		}
	}
}

func (m meters) called(ctx context.Context, method string, took time.Duration, err error) {
	m.calls.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("method", method), attribute.String("code", status.Code(err).String())))
}
