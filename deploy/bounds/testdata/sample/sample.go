// Package sample holds what a bound must be found missing of, marked by the problem that is wanted, and
// what needs none.
package sample

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

var seen = map[string]bool{} // want "seen, which is added to, without a bound"

func note(key string) { seen[key] = true }

type server struct {
	waiting map[string]int   // want "waiting, which is added to, without a bound"
	order   []string         // want "order, which is added to, without a bound"
	grown   map[string]int   // want "grown, which is added to, without a bound"
	aliased map[string]int   // want "aliased, which is added to, without a bound"
	copied  map[string]int   // want "copied, which is added to, without a bound"
	nested  map[string][]int // want "nested, which is added to, without a bound"
	shared  sync.Map         // want "shared, which is added to, without a bound"
	buf     bytes.Buffer     // want "buf, which is added to, without a bound"
	counts  counts           // want "counts, which is added to, without a bound"
	fixed   map[string]int
	row     []int
}

type counts map[string]int

func (c counts) add(key string) { c[key]++ }

func newServer() *server {
	s := &server{fixed: map[string]int{}}
	s.fixed["made"] = 1 // nobody else has it yet
	s.row = append(s.row, 1)
	return s
}

func (s *server) take(key string) {
	s.waiting[key]++
	s.order = append(s.order, key)
	grow(s.grown, key)
	alias := s.aliased
	alias[key] = 1
	maps.Copy(s.copied, s.waiting)
	s.nested[key] = append(s.nested[key], 1)
	s.counts.add(key)
	s.row = append(s.row[:0], 1) // begins anew
	delete(s.fixed, key)
}

func grow[V any](m map[string]V, key string) { growMore(m, key) }

func growMore[V any](m map[string]V, key string) {
	var none V
	m[key] = none
}

func (s *server) remember() http.HandlerFunc {
	callers := map[string]int{} // want "callers, which is added to, without a bound"
	return func(w http.ResponseWriter, r *http.Request) {
		callers[r.RemoteAddr]++
		once := map[string]int{}
		once[r.Host]++
	}
}

func channels() {
	_ = make(chan struct{}) // says something by being closed, and holds nothing
	_ = make(chan int)      // want "a channel without a bound"
	_ = make(chan int, 8)   // want "a channel without a bound"
}

func loop(in <-chan string) {
	all := map[string]bool{} // want "all, which is added to, without a bound"
	var batch []string
	var list []string // want "list, which is added to, without a bound"
	for key := range in {
		all[key] = true
		list = append(list, key)
		batch = append(batch, key)
		if len(batch) == 10 {
			batch = batch[:0]
		}
	}
	for {
		fresh := map[string]bool{}
		fresh["x"] = true
	}
}

func ends(keys []string) map[string]bool {
	set := map[string]bool{}
	for _, key := range keys {
		set[key] = true
	}
	return set
}

func goroutines(ctx context.Context, work []func() error) error {
	go note("x") // want "a goroutine without a bound"
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ctx.Err() }) // waited for, and as many as are written here
	for _, f := range work {
		g.Go(f) // want "a goroutine without a bound"
	}
	var lost sync.WaitGroup
	lost.Go(func() {}) // want "a goroutine without a bound"
	for range 3 {
		var each sync.WaitGroup
		each.Go(func() {})
		each.Wait()
	}
	return g.Wait()
}

func handler(wg *sync.WaitGroup) func() {
	return func() {
		wg.Go(func() {}) // want "a goroutine without a bound"
	}
}

func waits(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // want "a time-out without a bound"
	defer cancel()
	select {
	case <-ctx.Done():
	case <-time.After(time.Second): // want "a timer without a bound"
	}
	_ = net.Dialer{Timeout: time.Second} // want "Timeout without a bound"
	_ = &http.Server{
		IdleTimeout:       time.Minute, // want "IdleTimeout without a bound"
		ReadHeaderTimeout: time.Minute, // want "ReadHeaderTimeout without a bound"
	}
	transport := &http.Transport{MaxIdleConns: 3} // want "MaxIdleConns without a bound"
	transport.IdleConnTimeout = time.Second       // want "IdleConnTimeout without a bound"
	_ = http.Client{Transport: transport}         // want "a Client that waits for ever, for it lacks Timeout, without a bound"
	_ = net.Dialer{}                              // want "a Dialer that waits for ever, for it lacks Timeout, without a bound"
	_ = http.DefaultClient                        // want "DefaultClient has no time-out"
	_ = rate.NewLimiter(1, 1)                     // want "a limiter without a bound"
	_, _ = io.ReadAll(conn)                       // want "a stream read to its end without a bound"
	_, _ = io.ReadAll(io.LimitReader(conn, 10))
	_ = &sync.Pool{} // want "a pool without a bound"
}
