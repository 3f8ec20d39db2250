package telemetry

import "context"

type contextKey struct{}

type requestIDKey struct{}

// With puts a service's Telemetry into a request's context, for handlers that were made before it was
// known.
func With(ctx context.Context, t *Telemetry) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// From is the Telemetry of ctx; Discard's where it has none.
func From(ctx context.Context) *Telemetry {
	if t, ok := ctx.Value(contextKey{}).(*Telemetry); ok {
		return t
	}
	return Discard()
}

// WithRequestID names the request in every log line made with ctx.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID of ctx; "" where it has none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
