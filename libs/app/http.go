package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/telemetry"
)

const (
	// requestTimeout, bodyTimeout and answerTimeout bound slow callers; streams have no answerTimeout.
	//bound:timeout a request's headers, and a webhook's body with them; a connection's first from when it was made | {} | the connection is closed, the webhook answered 408
	requestTimeout = 10 * time.Second
	//bound:timeout a request's body | {} | reading it fails
	bodyTimeout = 30 * time.Second
	//bound:timeout an answer but a stream's | {} | the connection is closed
	answerTimeout = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// newServer has the deadlines that most requests have: net/http sets them with the least ado. Those of some routes differ.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h,
		//bound:exempt requestTimeout says it
		ReadHeaderTimeout: requestTimeout,
		//bound:exempt requestTimeout says it
		ReadTimeout: requestTimeout,
		//bound:exempt answerTimeout says it
		WriteTimeout: answerTimeout,
		//bound:timeout a connection between requests | {} | it is closed
		IdleTimeout: idleTimeout,
		//bound:limit a request's headers | {bytes} | 431
		MaxHeaderBytes: maxHeader,
		// net/http writes callers' addresses and the values of panics; ours are handled below.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// handler is one ServeMux for all services of the process.
func (r *run) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", r.readyz)
	mux.Handle("GET /metrics", r.p.Telemetry.MetricsHandler())
	document, err := r.openAPI()
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /v1/openapi.yaml", document)
	for _, s := range r.services {
		for _, route := range s.parts.Routes {
			if err := register(mux, route.Pattern, r.route(s, route)); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return bounded(r.p.Common.MaxRequests, identified(endpointx.Fallback(mux))), nil
}

// register makes ServeMux's panic (a pattern that is wrong or taken) an error.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("route %s: %v", pattern, v)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// route wraps a service's handler: its trace and telemetry, no panic to the outside, deadlines, and the API
// key.
func (r *run) route(s *service, route Route) http.Handler {
	h := route.Handler
	if !route.Public {
		h = r.directory.Middleware(h)
	}
	h = r.deadlines(route, r.timed(h))
	return s.telemetry.Server(route.Pattern, recovered(h))
}

// recovered answers 500 where a handler panics.
func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			ctx := r.Context()
			v := recover()
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) { // the answer is cut off, and must not look whole
				panic(v)
			}
			if v != nil {
				telemetry.From(ctx).Log.ErrorContext(ctx, "panic", "route", r.Pattern, "value_type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
				endpointx.WriteProblem(ctx, w, errors.New("app: the handler panicked"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// deadlines of body and answer, where they are not the server's. A stream has none but ends when the process stops.
func (r *run) deadlines(route Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if route.Prompt {
			next.ServeHTTP(w, req)
			return
		}
		control := http.NewResponseController(w)
		reading := time.Time{} // without a body, the end of the deadline would look like that of the connection
		if req.Body != nil && req.Body != http.NoBody {
			reading = time.Now().Add(bodyTimeout)
		}
		_ = control.SetReadDeadline(reading) // a recorder in tests has none
		if !route.Stream {
			next.ServeHTTP(w, req)
			return
		}
		_ = control.SetWriteDeadline(time.Time{})
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		defer r.stopping.onBegin(cancel)()
		next.ServeHTTP(w, req.WithContext(ctx))
	})
}

// identified gives each request an id, answered as X-Request-Id; a route's log lines and problems name it.
func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var id [8]byte
		_, _ = rand.Read(id[:])
		w.Header().Set("X-Request-Id", hex.EncodeToString(id[:]))
		next.ServeHTTP(w, r)
	})
}

// bounded answers 503 to what is more than max at a time. The probes always get through.
func bounded(most int, next http.Handler) http.Handler {
	//bound:limit requests under way, but for probes | {TRIBUTARY_MAX_REQUESTS} | 503
	slots := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		default:
			endpointx.WriteProblem(r.Context(), w, endpointx.Unavailable("room for another request"))
		}
	})
}

// readyz lists what is not ready (503), or says that all is (200).
func (r *run) readyz(w http.ResponseWriter, req *http.Request) {
	not := map[string]string{}
	if r.stopping.announced() {
		not["process"] = "stopping"
	}
	if err := r.timeKnown(); err != nil {
		not["time"] = err.Error()
	}
	if !r.directory.Ready() {
		not["access"] = "the list of API keys is not read yet"
	}
	for _, s := range r.services {
		for _, c := range s.parts.Ready {
			if err := c.Ready(); err != nil {
				not[s.name+"/"+c.Name] = telemetry.ErrorText(err)
			}
		}
	}
	answer := struct {
		Ready    bool              `json:"ready"`
		NotReady map[string]string `json:"not_ready,omitempty"`
	}{len(not) == 0, not}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// stopping tells readiness, and then streams, that the process is about to end.
type stopping struct {
	mu         sync.Mutex
	told, done bool
	next       int
	//bound:cache streams to end when the process stops | the requests under way | each goes with its stream
	hooks map[int]func()
}

func (s *stopping) announced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

func (s *stopping) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
}

// begin ends the streams.
func (s *stopping) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.done = true, true
	for _, f := range s.hooks {
		f()
	}
}

// onBegin calls f once stopping begins, or at once if it has; the function returned takes that back.
func (s *stopping) onBegin(f func()) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		f()
	}
	if s.hooks == nil {
		s.hooks = map[int]func(){}
	}
	id := s.next
	s.next++
	s.hooks[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hooks, id)
	}
}
