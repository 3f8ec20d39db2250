package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// server makes each request one span and one measurement, both by the route's pattern.
type server struct {
	t       *Telemetry
	pattern string
	next    http.Handler
	seconds metric.Float64Histogram
	//bound:cache a route's labels | one a scheme and status | kept
	labels sync.Map // outcome -> metric.MeasurementOption
}

type outcome struct {
	status int
	secure bool
}

// Server serves a route (http.ServeMux's pattern, "GET /v1/contacts") with a trace, a log and a duration of t's. The
// trace is a new one: a stranger's is linked, not continued. What it records are OpenTelemetry's semantic
// conventions for HTTP servers, without any word of the caller's.
func (t *Telemetry) Server(pattern string, next http.Handler) http.Handler {
	// An instrument that can't be made is a no-op: the name is a constant, so nothing else can fail.
	seconds, _ := t.Meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP server requests."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10))
	return &server{t: t, pattern: pattern, next: next, seconds: seconds}
}

// begin a trace of a request. Where nobody is told of spans it is ids alone, by which log lines of one message are joined.
func (s *server) begin(r *http.Request, id string) (context.Context, trace.Span) {
	ctx := withRequest(r.Context(), s.t, id)
	if p := s.t.process; p != nil && p.spans == nil {
		ctx = trace.ContextWithSpanContext(ctx, freshTrace())
		return ctx, trace.SpanFromContext(ctx)
	}
	opts := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer)}
	if r.Header.Get("Traceparent") != "" {
		stranger := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		opts = append(opts, trace.WithLinks(trace.LinkFromContext(stranger)))
	}
	return s.t.Tracer.Start(ctx, s.pattern, opts...)
}

func freshTrace() trace.SpanContext {
	var (
		t trace.TraceID
		s trace.SpanID
	)
	binary.NativeEndian.PutUint64(t[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(t[8:], rand.Uint64()|1) // an id of zeros is none
	binary.NativeEndian.PutUint64(s[:], rand.Uint64()|1)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t, SpanID: s})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	ctx, span := s.begin(r, w.Header().Get("X-Request-Id"))
	defer span.End()
	seen := &statusWriter{ResponseWriter: w}
	defer func() {
		status := seen.status
		if status == 0 {
			status = http.StatusOK
		}
		s.seconds.Record(ctx, time.Since(began).Seconds(), s.labelled(r, status))
		if span.IsRecording() {
			span.SetAttributes(s.attributes(outcome{status, r.TLS != nil})...)
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
	}()
	s.next.ServeHTTP(seen, r.WithContext(ctx))
}

func (s *server) labelled(r *http.Request, status int) metric.MeasurementOption {
	of := outcome{status, r.TLS != nil}
	known, ok := s.labels.Load(of)
	if !ok {
		known, _ = s.labels.LoadOrStore(of, metric.WithAttributes(s.attributes(of)...))
	}
	return known.(metric.MeasurementOption)
}

func (s *server) attributes(of outcome) []attribute.KeyValue {
	method, route, found := strings.Cut(s.pattern, " ")
	if !found {
		method, route = "_OTHER", s.pattern
	}
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", method), attribute.String("http.route", route),
		attribute.Int("http.response.status_code", of.status), attribute.String("url.scheme", "http"),
	}
	if of.secure {
		attrs[3] = attribute.String("url.scheme", "https")
	}
	if of.status >= http.StatusInternalServerError {
		attrs = append(attrs, attribute.String("error.type", strconv.Itoa(of.status)))
	}
	return attrs
}

// statusWriter keeps the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the first status that is final.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
