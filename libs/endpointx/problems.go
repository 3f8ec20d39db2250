package endpointx

import (
	"context"
	"net/http"

	"tributary.dev/libs/endpointx/problem"
)

// Problem is an error with the HTTP answer it gets.
type Problem = problem.Problem

// Invalid is a 422 that names the fields at fault ("text": "is required").
func Invalid(fields map[string]string) *Problem { return problem.Invalid(fields) }

// NotFound is a 404.
func NotFound(what string) *Problem { return problem.NotFound(what) }

// Conflict is a 409.
func Conflict(detail string) *Problem { return problem.Conflict(detail) }

// Forbidden is a 403.
func Forbidden(scope string) *Problem { return problem.Forbidden(scope) }

// Unavailable is a 503.
func Unavailable(what string) *Problem { return problem.Unavailable(what) }

// WriteProblem is the one error encoder; faults of the store are 503, and unknown errors 500 without their
// text; both are logged.
func WriteProblem(ctx context.Context, w http.ResponseWriter, err error) { problem.Write(ctx, w, err) }

// Fallback answers as problem+json what mux would answer in plain text: 404 for a path that nothing
// serves, 405 with Allow for a method that the path does not take.
func Fallback(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		seen := &statusRecorder{header: http.Header{}}
		h.ServeHTTP(seen, r)
		if seen.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", seen.header.Get("Allow"))
			problem.Write(r.Context(), w, &Problem{
				Status: seen.status, Code: "method_not_allowed", Title: "This path does not take that method",
				Detail: "allowed: " + seen.header.Get("Allow"),
			})
			return
		}
		problem.Write(r.Context(), w, NotFound("path"))
	})
}

// statusRecorder keeps what a handler would have answered, but for the body.
type statusRecorder struct {
	header http.Header
	status int
}

func (s *statusRecorder) Header() http.Header         { return s.header }
func (s *statusRecorder) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusRecorder) WriteHeader(status int)      { s.status = status }
