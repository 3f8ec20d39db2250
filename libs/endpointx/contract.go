// Package endpointx makes typed go-kit endpoints and encodes every error one way: RFC 9457 problem+json.
package endpointx

import (
	"context"
	"net/http"
	"time"

	"tributary.dev/libs/sqldb"
)

// SCAFFOLD

// Problem is an error with the HTTP answer it gets. Detail is for the caller and carries nothing personal
// of others, no secret, no internal error text.
type Problem struct {
	Status int
	// Code is a stable word ("not_found", "invalid", "conflict", "gone", "missing_scope", "unavailable").
	Code   string
	Title  string
	Detail string
	// Fields at fault, by JSON pointer or parameter name.
	Fields map[string]string
	// RetryAfter sets the header.
	RetryAfter time.Duration
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Invalid is a 422 that names the fields at fault ("text": "is required").
func Invalid(fields map[string]string) *Problem { panic("scaffold") }

// NotFound, Gone, Conflict, Forbidden and Unavailable are the other usual ones.
func NotFound(what string) *Problem    { panic("scaffold") }
func Gone(what string) *Problem        { panic("scaffold") }
func Conflict(detail string) *Problem  { panic("scaffold") }
func Forbidden(scope string) *Problem  { panic("scaffold") }
func Unavailable(what string) *Problem { panic("scaffold") }

// Options of a handler.
type Options struct {
	// Scope that the caller must have.
	Scope string
	// MaxBody in bytes; 0 is 1 MiB.
	MaxBody int64
	// Timeout of the endpoint; 0 is 10 s.
	Timeout time.Duration
	// Status of a success; 0 is 200.
	Status int
	// Idempotency keys are honoured on this store where not nil (POSTs that create).
	Idempotency *Idempotency
}

// JSON makes a handler of a typed function: Req is decoded from the JSON body (unknown fields are
// refused, one value only), path values and the query by struct tags `path:"id"` and `query:"limit"`;
// Resp is encoded to a buffer first. It goes through a go-kit endpoint with the house's middleware:
// trace, log, recover, timeout, limit.
func JSON[Req, Resp any](opts Options, f func(ctx context.Context, req Req) (Resp, error)) http.Handler {
	panic("scaffold")
}

// WriteProblem is the one error encoder; unknown errors are 500 without their text, and are logged.
func WriteProblem(ctx context.Context, w http.ResponseWriter, err error) { panic("scaffold") }

// Page of a list.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// EncodeCursor and DecodeCursor make an opaque cursor of a list's last sort key; a cursor that is none of
// ours is Invalid.
func EncodeCursor(key ...any) string                      { panic("scaffold") }
func DecodeCursor(param, cursor string, key ...any) error { panic("scaffold") }

// Idempotency keeps, per workspace and Idempotency-Key, an HMAC of the body and the id of what was
// made, for 24 h, in the service's own database (its migration is IdempotencySQL): the same key and
// body answers the same resource; another body is 409.
type Idempotency struct{}

// IdempotencySQL creates the table; services copy it into a migration.
const IdempotencySQL = `CREATE TABLE idempotency (
	workspace_id TEXT NOT NULL,
	key          TEXT NOT NULL,
	body_hmac    TEXT NOT NULL,
	resource_id  TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	PRIMARY KEY (workspace_id, key)
)`

// NewIdempotency makes the store; see the package documentation for how a handler reserves a key in the
// same transaction as its change.
func NewIdempotency(db *sqldb.DB, secret []byte, now func() time.Time) *Idempotency {
	panic("scaffold")
}
