package endpointx

import (
	"context"
	"net/http"
	"strings"

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
// serves, 405 with Allow for a method that the path does not take. It is the last to be registered, and costs a
// request that something serves nothing.
func Fallback(mux *http.ServeMux) http.Handler {
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{
			http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost, http.MethodPut,
		} {
			other := *r
			other.Method = method
			if _, pattern := mux.Handler(&other); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			problem.Write(r.Context(), w, NotFound("path"))
			return
		}
		allow := strings.Join(allowed, ", ")
		w.Header().Set("Allow", allow)
		problem.Write(r.Context(), w, &Problem{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Title: "This path does not take that method",
			Detail: "allowed: " + allow,
		})
	})
	return mux
}
