package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Config of a process.
type Config struct {
	// Service names who speaks in logs, spans and metrics.
	Service string
	// OTLPEndpoint takes traces by gRPC ("https://collector:4317", "http://…" without TLS); empty: none.
	OTLPEndpoint string
	// TraceFile appends spans as JSON lines, for the demo and tests.
	TraceFile string
	// TraceRatio is the share of traces begun here that are kept; 0 is 1.
	TraceRatio float64
	// LogLevel is debug, info, warn or error; empty is info.
	LogLevel string
	// LogOutput is os.Stderr where nil.
	LogOutput io.Writer
}

// Telemetry of one service.
type Telemetry struct {
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter

	tracers trace.TracerProvider
	meters  metric.MeterProvider
	process *process
	owner   bool
}

// process is what the services of one process share.
type process struct {
	log      slog.Handler
	spans    sdktrace.SpanProcessor // nil: no span is exported
	file     io.Closer
	sampler  sdktrace.Sampler
	registry *prometheus.Registry
}

// scope names this instrumentation in spans and metrics.
const scope = "tributary.dev/libs/telemetry"

// New sets it up. Close flushes. An endpoint that cannot be reached is no error: spans are then dropped,
// and the loss is logged.
func New(cfg Config) (*Telemetry, error) {
	var level slog.Level
	if cfg.LogLevel != "" {
		if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
			return nil, fmt.Errorf("telemetry: log level must be debug, info, warn or error")
		}
	}
	out := cfg.LogOutput
	if out == nil {
		out = os.Stderr
	}
	p := &process{log: newLogHandler(out, level), registry: newRegistry()}
	if err := p.openSpans(cfg); err != nil {
		return nil, err
	}
	t, err := p.telemetry(cfg.Service)
	if err != nil {
		return nil, err
	}
	t.owner = true
	return t, nil
}

// For is the Telemetry of another service in the same process: its own name, the same outputs. Closing
// the first closes all.
func (t *Telemetry) For(service string) (*Telemetry, error) {
	if t.process == nil {
		return t, nil
	}
	return t.process.telemetry(service)
}

// TracerProvider and MeterProvider are for libraries that instrument themselves.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// MeterProvider is TracerProvider's counterpart.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// Close flushes spans, bounded by ctx.
func (t *Telemetry) Close(ctx context.Context) error {
	if !t.owner {
		return nil
	}
	return t.process.close(ctx)
}

// MetricsHandler serves /metrics: everything the process measures, and Go's own runtime.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.process == nil {
		return http.NotFoundHandler()
	}
	// One series that can't be told must not keep the others from being told.
	return promhttp.HandlerFor(t.process.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ErrorLog: metricsLog{t.Log}})
}

// metricsLog logs what keeps series from being told: names of metrics and labels. That whoever asked has left is none
// of it, and would be told once for each metric.
type metricsLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(v ...any) {
	for _, said := range v {
		var gone *net.OpError
		if err, is := said.(error); is && errors.As(err, &gone) && !gone.Timeout() {
			return
		}
	}
	l.log.Error("metrics", "error", fmt.Sprint(v...))
}

// Discard is for tests: logs nowhere, traces and meters nothing.
func Discard() *Telemetry {
	tracers, meters := tracenoop.NewTracerProvider(), metricnoop.NewMeterProvider()
	return &Telemetry{
		Log:     slog.New(slog.DiscardHandler),
		Tracer:  tracers.Tracer(scope),
		Meter:   meters.Meter(scope),
		tracers: tracers,
		meters:  meters,
	}
}

func (p *process) telemetry(service string) (*Telemetry, error) {
	meters, err := p.meterProvider(service)
	if err != nil {
		return nil, err
	}
	tracers := p.tracerProvider(service)
	return &Telemetry{
		Log:     slog.New(p.log).With("service", service),
		Tracer:  tracers.Tracer(scope),
		Meter:   meters.Meter(scope),
		tracers: tracers,
		meters:  meters,
		process: p,
	}, nil
}
