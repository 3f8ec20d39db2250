package telemetry

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"tributary.dev/libs/bus"
)

// Inject adds the trace of ctx to headers (W3C Trace Context: traceparent, tracestate).
func Inject(ctx context.Context, headers []bus.Header) []bus.Header {
	c := carrier(headers)
	propagation.TraceContext{}.Inject(ctx, &c)
	return c
}

// Extract continues the trace of a record.
func Extract(ctx context.Context, headers []bus.Header) context.Context {
	c := carrier(headers)
	return propagation.TraceContext{}.Extract(ctx, &c)
}

// EventHeaders are the headers of a protobuf CloudEvent in the Kafka binding's binary mode (CloudEvents
// 1.0, Kafka Protocol Binding, 3.2), and then those of a trace (see Inject). timeMicros is UTC since 1970.
func EventHeaders(trace []bus.Header, id, typ, source string, timeMicros int64) []bus.Header {
	headers := make([]bus.Header, 0, 6+len(trace))
	values := make([]byte, 0, len(id)+len(typ)+len(source)+len(time.RFC3339Nano))
	value := func(s string) []byte {
		values = append(values, s...)
		return slices.Clip(values[len(values)-len(s):])
	}
	return append(append(headers,
		bus.Header{Key: "ce_specversion", Value: specVersion},
		bus.Header{Key: "ce_id", Value: value(id)},
		bus.Header{Key: "ce_type", Value: value(typ)},
		bus.Header{Key: "ce_source", Value: value(source)},
		bus.Header{Key: "ce_time", Value: time.UnixMicro(timeMicros).UTC().AppendFormat(values[len(values):], time.RFC3339Nano)},
		bus.Header{Key: "content-type", Value: contentType},
	), trace...)
}

var specVersion, contentType = []byte("1.0"), []byte("application/protobuf")

// carrier makes headers a propagation.TextMapCarrier.
type carrier []bus.Header

func (c *carrier) Get(key string) string {
	for _, h := range *c {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func (c *carrier) Set(key, value string) {
	i := slices.IndexFunc(*c, func(h bus.Header) bool { return h.Key == key })
	if i < 0 {
		*c = append(*c, bus.Header{Key: key, Value: []byte(value)})
		return
	}
	(*c)[i].Value = []byte(value)
}

func (c *carrier) Keys() []string {
	keys := make([]string, len(*c))
	for i, h := range *c {
		keys[i] = h.Key
	}
	return keys
}
