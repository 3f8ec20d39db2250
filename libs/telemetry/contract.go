// Package telemetry sets OpenTelemetry up, carries traces over Kafka headers, and logs JSON that is
// redacted: ids and classes only.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"tributary.dev/libs/bus"
)

// SCAFFOLD

// Config of a process.
type Config struct {
	Service string
	// OTLPEndpoint for traces; empty: none. TraceFile appends spans as JSON lines (demo and tests).
	OTLPEndpoint, TraceFile string
	LogLevel                string
	LogOutput               io.Writer
}

// Telemetry of one process: no globals are set.
type Telemetry struct {
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter
}

// New sets it up. Close flushes.
func New(cfg Config) (*Telemetry, error) { panic("scaffold") }

// Close flushes spans, bounded by ctx.
func (t *Telemetry) Close(ctx context.Context) error { panic("scaffold") }

// MetricsHandler serves /metrics.
func (t *Telemetry) MetricsHandler() http.Handler { panic("scaffold") }

// Inject adds traceparent to headers; Extract continues the trace of a record.
func Inject(ctx context.Context, headers []bus.Header) []bus.Header     { panic("scaffold") }
func Extract(ctx context.Context, headers []bus.Header) context.Context { panic("scaffold") }

// EventHeaders are the CloudEvents headers (Kafka binding, binary mode) and the trace of ctx.
func EventHeaders(ctx context.Context, id, typ, source string, timeMicros int64) []bus.Header {
	panic("scaffold")
}

// Discard is for tests: logs nowhere, traces and meters nothing.
func Discard() *Telemetry { panic("scaffold") }
