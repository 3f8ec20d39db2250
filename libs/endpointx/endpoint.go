package endpointx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/ratelimit"
	kithttp "github.com/go-kit/kit/transport/http"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/telemetry"
)

// Options of a handler.
type Options struct {
	// Scope that the caller must have; "" asks for none.
	Scope string
	// MaxBody in bytes; 0 is 1 MiB.
	MaxBody int64
	// EmptyBody: a request may come without a body, where none of its fields is required.
	EmptyBody bool
	// Timeout of the endpoint; 0 is 10 s.
	Timeout time.Duration
	// Rate of requests a second that one workspace may make of this handler, with bursts of twice that; 0
	// is 1,000.
	Rate float64
	// Status of a success; 0 is 200. With 204 nothing is encoded.
	Status int
	// Idempotency keys are honoured on this store where not nil (POSTs that create).
	Idempotency *Idempotency
}

// Validator is a request that can say what is wrong with it beyond types: an error is usually Invalid.
type Validator interface{ Validate() error }

// JSON makes a handler of a typed function: Req is decoded from the JSON body (unknown fields are
// refused, one object only), path values and the query by struct tags `path:"id"` and `query:"limit"`
// (such fields are never taken from the body), and asked to Validate where it is a Validator. Resp is
// encoded to a buffer first; it may choose its status and headers as go-kit's StatusCoder and Headerer.
//
// It goes through a go-kit endpoint with the house's middleware: trace, log, recover, timeout, limit.
func JSON[Req, Resp any](opts Options, f func(ctx context.Context, req Req) (Resp, error)) http.Handler {
	opts = opts.withDefaults()
	decoder := newDecoder[Req](opts)
	e := endpoint.Chain(
		traced, logged, recovered, limitedTo(opts.Timeout),
		ratelimit.NewDelayingLimiter(newWorkspaceLimit(rate.Limit(opts.Rate))),
	)(func(ctx context.Context, request any) (any, error) {
		d := request.(decoded[Req])
		return f(withIdempotencyKey(ctx, d.key), d.req)
	})
	server := kithttp.NewServer(e, decoder.decode, encoder(opts.Status), kithttp.ServerErrorEncoder(encodeError))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil {
			//bound:limit the body of an API request | {bytes defaultBody} | 413
			r.Body = http.MaxBytesReader(w, r.Body, opts.MaxBody)
		}
		server.ServeHTTP(w, r)
	})
}

const (
	defaultBody    = 1 << 20
	defaultTimeout = 10 * time.Second
	defaultRate    = 1000
)

func (o Options) withDefaults() Options {
	if o.MaxBody == 0 {
		o.MaxBody = defaultBody
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Status == 0 {
		o.Status = http.StatusOK
	}
	if o.Rate == 0 {
		o.Rate = defaultRate
	}
	return o
}

// traced notes on the request's span whose request it is and what came of it.
func traced(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, request any) (any, error) {
		span := trace.SpanFromContext(ctx)
		if c, ok := access.From(ctx); ok {
			span.SetAttributes(attribute.String("tributary.workspace_id", c.WorkspaceID))
		}
		response, err := next(ctx, request)
		if err != nil {
			code := problem.Of(ctx, err).Code
			span.SetAttributes(attribute.String("error.type", code))
			span.SetStatus(codes.Error, code)
		}
		return response, err
	}
}

// logged writes refusals at debug level; faults of ours are logged by the error encoder.
func logged(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, request any) (any, error) {
		began := time.Now()
		response, err := next(ctx, request)
		if err != nil {
			telemetry.From(ctx).Log.DebugContext(ctx, "request refused",
				"error_code", problem.Of(ctx, err).Code, "duration_ms", time.Since(began).Milliseconds())
		}
		return response, err
	}
}

// recovered turns a panic into an error: the type of its value and where it was, never the value.
func recovered(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, request any) (response any, err error) {
		defer func() {
			if v := recover(); v != nil {
				telemetry.From(ctx).Log.ErrorContext(ctx, "panic", "value_type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
				err = errPanic
			}
		}()
		return next(ctx, request)
	}
}

var errPanic = errors.New("endpointx: panic")

func limitedTo(timeout time.Duration) endpoint.Middleware {
	return func(next endpoint.Endpoint) endpoint.Endpoint {
		return func(ctx context.Context, request any) (any, error) {
			//bound:timeout an API request | {defaultTimeout}, a search longer | 504
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return next(ctx, request)
		}
	}
}

func encodeError(ctx context.Context, err error, w http.ResponseWriter) { problem.Write(ctx, w, err) }

func encoder(status int) kithttp.EncodeResponseFunc {
	return func(_ context.Context, w http.ResponseWriter, response any) error {
		status := status
		if s, ok := response.(kithttp.StatusCoder); ok {
			status = s.StatusCode()
		}
		var buf bytes.Buffer
		if status != http.StatusNoContent {
			e := json.NewEncoder(&buf)
			e.SetEscapeHTML(false)
			if err := e.Encode(response); err != nil {
				return err
			}
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Content-Length", strconv.Itoa(buf.Len())) // else a long answer goes out in chunks
		}
		if h, ok := response.(kithttp.Headerer); ok {
			for name, values := range h.Headers() {
				w.Header()[name] = values
			}
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write(buf.Bytes()) // the caller has gone; there is nobody to tell
		return nil
	}
}
