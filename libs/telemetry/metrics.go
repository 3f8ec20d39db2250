package telemetry

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
)

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// What labels have is bounded where it is known; this holds for what providers, and whoever holds a signing
// secret, may put into one.
//
//bound:cache series of a metric | {} | further ones are counted together, as otel_metric_overflow
const maxSeries = 2000

// meterProvider feeds the process's one registry; the label service tells whose a series is.
func (p *process) meterProvider(service string) (metric.MeterProvider, error) {
	registerer := prometheus.WrapRegistererWith(prometheus.Labels{"service": service}, p.registry)
	exporter, err := promexporter.New(
		promexporter.WithRegisterer(registerer),
		promexporter.WithoutTargetInfo(),
		promexporter.WithoutScopeInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics of %s: %w", service, err)
	}
	return sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(exporter),
		sdkmetric.WithCardinalityLimit(maxSeries),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter), // /metrics has no place for them
	), nil
}
