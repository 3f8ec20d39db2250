package telemetry

import "context"

type contextKey struct{}

// request is what a request's context says: whose it is, and which.
type request struct {
	t  *Telemetry
	id string
}

func requestOf(ctx context.Context) request {
	r, _ := ctx.Value(contextKey{}).(request)
	return r
}

func withRequest(ctx context.Context, t *Telemetry, id string) context.Context {
	return context.WithValue(ctx, contextKey{}, request{t, id})
}

// With puts a service's Telemetry into a request's context, for handlers that were made before it was
// known.
func With(ctx context.Context, t *Telemetry) context.Context {
	return withRequest(ctx, t, requestOf(ctx).id)
}

// From is the Telemetry of ctx; Discard's where it has none.
func From(ctx context.Context) *Telemetry {
	if t := requestOf(ctx).t; t != nil {
		return t
	}
	return Discard()
}

// WithRequestID names the request in every log line made with ctx.
func WithRequestID(ctx context.Context, id string) context.Context {
	return withRequest(ctx, requestOf(ctx).t, id)
}

// RequestID of ctx; "" where it has none.
func RequestID(ctx context.Context) string { return requestOf(ctx).id }
