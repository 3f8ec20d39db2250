package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const maxSpans = 2048

// openSpans makes the process's way out for spans, where one is configured.
func (p *process) openSpans(cfg Config) error {
	var exporters []sdktrace.SpanExporter
	if cfg.OTLPEndpoint != "" {
		e, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return fmt.Errorf("telemetry: OTLP endpoint: %w", err)
		}
		exporters = append(exporters, e)
	}
	if cfg.TraceFile != "" {
		f, err := os.OpenFile(cfg.TraceFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("telemetry: trace file: %w", err)
		}
		e, err := stdouttrace.New(stdouttrace.WithWriter(f))
		if err != nil {
			return errors.Join(fmt.Errorf("telemetry: trace file: %w", err), f.Close())
		}
		p.file = f
		exporters = append(exporters, e)
	}
	if len(exporters) == 0 {
		// Ids are still made and carried on, so that log lines of one message can be joined.
		p.sampler = sdktrace.NeverSample()
		return nil
	}
	ratio := cfg.TraceRatio
	if ratio == 0 {
		ratio = 1
	}
	p.sampler = sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	//bound:queue spans that wait to be sent | {maxSpans} | the newest are dropped
	p.spans = sdktrace.NewBatchSpanProcessor(
		&redactingExporter{to: exporters, log: slog.New(p.log)},
		sdktrace.WithBatchTimeout(time.Second),
		sdktrace.WithMaxQueueSize(maxSpans),
		//bound:timeout sending spans | {} | they are lost, and the loss is logged
		sdktrace.WithExportTimeout(30*time.Second),
	)
	return nil
}

func (p *process) tracerProvider(service string) trace.TracerProvider {
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithSampler(p.sampler),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
	}
	if p.spans != nil {
		opts = append(opts, sdktrace.WithSpanProcessor(p.spans))
	}
	return sdktrace.NewTracerProvider(opts...)
}

func (p *process) close(ctx context.Context) error {
	var errs []error
	if p.spans != nil {
		errs = append(errs, p.spans.Shutdown(ctx))
	}
	if p.file != nil {
		errs = append(errs, p.file.Close())
	}
	return errors.Join(errs...)
}

// redactingExporter lets ids and classes through and nothing else, whoever made the span.
type redactingExporter struct {
	to  []sdktrace.SpanExporter
	log *slog.Logger
}

// ExportSpans never fails: spans that cannot be delivered are dropped and the loss is logged.
func (e *redactingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	redacted := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		redacted[i] = redactedSpan{s}
	}
	for _, to := range e.to {
		if err := to.ExportSpans(ctx, redacted); err != nil {
			e.log.WarnContext(ctx, "spans lost", "count", len(spans), "error", err)
		}
	}
	return nil
}

// Shutdown ends every exporter.
func (e *redactingExporter) Shutdown(ctx context.Context) error {
	var errs []error
	for _, to := range e.to {
		errs = append(errs, to.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

type redactedSpan struct{ sdktrace.ReadOnlySpan }

func (s redactedSpan) Attributes() []attribute.KeyValue {
	return allowed(s.ReadOnlySpan.Attributes())
}

func (s redactedSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	out := make([]sdktrace.Event, len(events))
	for i, e := range events {
		e.Attributes = allowed(e.Attributes)
		out[i] = e
	}
	return out
}

func (s redactedSpan) Links() []sdktrace.Link {
	links := s.ReadOnlySpan.Links()
	out := make([]sdktrace.Link, len(links))
	for i, l := range links {
		l.Attributes = allowed(l.Attributes)
		out[i] = l
	}
	return out
}

// Status loses its description: it is an error's text.
func (s redactedSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

// allowedAttributes is the closed list of what a span may carry: OpenTelemetry's names for methods,
// routes, statuses, systems and classes, and our own ids. Addresses, paths, queries, agents and texts are
// not among them.
var allowedAttributes = map[attribute.Key]bool{
	"http.request.method":                true,
	"http.response.status_code":          true,
	"http.route":                         true,
	"http.request.body.size":             true,
	"http.response.body.size":            true,
	"network.protocol.name":              true,
	"network.protocol.version":           true,
	"url.scheme":                         true,
	"error.type":                         true,
	"exception.type":                     true,
	"messaging.system":                   true,
	"messaging.operation.name":           true,
	"messaging.operation.type":           true,
	"messaging.destination.name":         true,
	"messaging.destination.partition.id": true,
	"messaging.batch.message_count":      true,
	"messaging.consumer.group.name":      true,
	"messaging.kafka.offset":             true,
	"rpc.system":                         true,
	"rpc.service":                        true,
	"rpc.method":                         true,
	"rpc.grpc.status_code":               true,
	"rpc.response.status_code":           true,
	"db.system.name":                     true,
	"db.operation.name":                  true,
	"cloudevents.event_id":               true,
	"cloudevents.event_type":             true,
	"cloudevents.event_source":           true,
}

// allowed also lets through what a service names tributary.<thing>: ids, classes and counts by the house's
// rules, and scrubbed all the same.
func allowed(attrs []attribute.KeyValue) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		switch {
		case allowedAttributes[a.Key]:
			out = append(out, a)
		case strings.HasPrefix(string(a.Key), "tributary.") && !dangerous(string(a.Key)):
			if a.Value.Type() == attribute.STRING {
				a.Value = attribute.StringValue(scrub(a.Value.AsString()))
			}
			out = append(out, a)
		}
	}
	return out
}
