// Package standin stands in for providers: small servers that speak enough of a provider's API to be sent
// to and fetched from, remember what they were asked, can be told to fail, and make the signed webhooks
// that the provider would send. Demo and tests use them; nothing of the mesh does.
package standin

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"
)

// server is what every stand-in is: a loopback listener with a mux.
type server struct {
	URL string

	http *http.Server
	mux  *http.ServeMux

	mu    sync.Mutex
	fault Fault
	calls int
}

// Fault decides about the n-th call (from 1) of a method before it is carried out, and what is answered
// when it was. Nil fields change nothing.
type Fault func(n int, method string) Failure

// Failure of one call.
type Failure struct {
	// Refuse answers with this status and header instead of carrying the call out.
	Refuse int
	Header http.Header
	// Before is how long it takes until the call is carried out; it is not, where the caller leaves before.
	Before time.Duration
	// Hang up after the call was carried out: the caller never learns.
	HangUp bool
	// Delay the answer.
	Delay time.Duration
}

func newServer() *server {
	mux := http.NewServeMux()
	return &server{mux: mux, http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
}

// start listens on address ("127.0.0.1:0" for any port).
func (s *server) start(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.URL = "http://" + l.Addr().String()
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return nil
}

// Close ends the server and its connections.
func (s *server) Close() error { return s.http.Close() }

// Fail sets the fault of later calls; nil ends it.
func (s *server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.calls = f, 0
}

// carry runs one call under the fault that is set. do gives the answer.
func (s *server) carry(w http.ResponseWriter, r *http.Request, method string, do func() (status int, answer any)) {
	s.mu.Lock()
	s.calls++
	var f Failure
	if s.fault != nil {
		f = s.fault(s.calls, method)
	}
	s.mu.Unlock()
	if f.Refuse != 0 {
		for k, v := range f.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(f.Refuse)
		return
	}
	if _ = r.ParseForm(); !held(r, f.Before) { // only once its body was read is a caller seen to leave
		return
	}
	status, answer := do()
	held(r, f.Delay)
	if f.HangUp {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a caller that left is the caller's affair
}

// held waits, and tells whether the caller is still there.
func held(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}
