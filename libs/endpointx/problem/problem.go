// Package problem is the mesh's one way to answer an error over HTTP: RFC 9457 problem details.
package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
)

// Problem is an error with the HTTP answer it gets. Detail is for the caller and carries nothing personal
// of others, no secret, no internal error text.
type Problem struct {
	Status int
	// Code is a stable word ("not_found", "invalid", "conflict", "gone", "missing_scope", "unavailable").
	Code   string
	Title  string
	Detail string
	// Fields at fault, by path ("text", "settings/region") or parameter name.
	Fields map[string]string
	// RetryAfter sets the header.
	RetryAfter time.Duration
	// Authenticate sets WWW-Authenticate (RFC 6750).
	Authenticate string
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// body is the document: RFC 9457, 3.1, with the extension members code, fields and request_id.
type body struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Code      string            `json:"code"`
	Detail    string            `json:"detail,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
}

// Of is the answer to err. A Problem anywhere in its chain is answered as it is; a caller who has gone gets
// nothing; a fault of the store is 503; a deadline is 504; anything else is 500.
func Of(ctx context.Context, err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &Problem{Status: 499, Code: "cancelled", Title: "The caller has gone"}
	case sqldb.IsStoreFault(err):
		return Unavailable("the store")
	case errors.Is(err, context.DeadlineExceeded):
		return &Problem{Status: http.StatusGatewayTimeout, Code: "timeout", Title: "This took too long", RetryAfter: time.Second}
	}
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Title: "Something went wrong here"}
}

// Write answers err with what it is a Problem Of, without its text; faults of ours are logged.
func Write(ctx context.Context, w http.ResponseWriter, err error) {
	p := Of(ctx, err)
	if p.Status >= http.StatusInternalServerError {
		level := slog.LevelError
		if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout {
			level = slog.LevelWarn
		}
		telemetry.From(ctx).Log.Log(ctx, level, "request failed", "status", p.Status, "code", p.Code, "error", err)
	}
	write(w, p)
}

func write(w http.ResponseWriter, p *Problem) {
	title := p.Title
	if title == "" {
		title = http.StatusText(p.Status)
	}
	var buf bytes.Buffer
	// A struct of strings always encodes.
	_ = json.NewEncoder(&buf).Encode(body{
		Type: "urn:tributary:problem:" + p.Code, Title: title, Status: p.Status, Code: p.Code,
		Detail: p.Detail, Fields: p.Fields, RequestID: w.Header().Get("X-Request-Id"),
	})
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Authenticate != "" {
		h.Set("WWW-Authenticate", p.Authenticate)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(buf.Bytes())
}
