package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// paceWorkers at once take the turns of a pace.
const paceWorkers = 64

// pace is the rate of the measures of latency, a second; where sizes are scaled down, so is it.
func (e *env) pace() int { return max(20, e.size(200)) }

// endToEnd is how long it takes from a webhook's sending until a live stream tells of its message, beside what
// the same ways take without a mesh: over the broker once, and a commit of the database. These are taken before it and
// after it: a disk has better minutes and worse ones.
func endToEnd(ctx context.Context, e *env) ([]figure, error) {
	var hop, commit []float64
	bare := func() error {
		took, err := e.bareHop(ctx)
		if err != nil {
			return fmt.Errorf("bare hop: %w", err)
		}
		hop = append(hop, took...)
		if took, err = e.bareCommit(ctx); err != nil {
			return fmt.Errorf("bare commit: %w", err)
		}
		commit = append(commit, took...)
		return nil
	}
	if err := bare(); err != nil {
		return nil, err
	}
	all, answered, err := e.wayOfWebhooks(ctx)
	if err != nil {
		return nil, err
	}
	if err := bare(); err != nil {
		return nil, err
	}
	hop99, commit99 := percentile(hop, .99), percentile(commit, .99)
	return []figure{
		figure{Name: "end_to_end_p99_ms", Value: percentile(all, .99), Unit: "ms"}.atMost(2*hop99 + commit99 + 10),
		{Name: "end_to_end_p50_ms", Value: percentile(all, .5), Unit: "ms"},
		{Name: "webhook_p99_ms", Value: percentile(answered, .99), Unit: "ms"},
		{Name: "bare_hop_p99_ms", Value: hop99, Unit: "ms"},
		{Name: "bare_commit_p99_ms", Value: commit99, Unit: "ms"},
	}, nil
}

// wayOfWebhooks gives for each of some webhooks, in milliseconds, what passed until its message was told of, and until it
// was answered.
func (e *env) wayOfWebhooks(ctx context.Context) (took, answered []float64, err error) {
	w, err := e.newWorld(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s, err := w.follow(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	address, err := w.address("slack")
	if err != nil {
		return nil, nil, err
	}
	callers := make([]*caller, paceWorkers)
	defer func() {
		for _, c := range callers {
			if c != nil {
				c.conn.Close()
			}
		}
	}()
	var mu sync.Mutex
	maker := newWebhooks(0, knownPeople)
	sent := map[string]time.Time{}
	do := func(ctx context.Context, worker, _ int) error {
		if callers[worker] == nil { // a connection that sends nothing is closed
			c, err := dialCaller(ctx, address)
			if err != nil {
				return err
			}
			callers[worker] = c
		}
		mu.Lock()
		request := bytes.Clone(maker.next(time.Now()))
		id := maker.messageID(w.connection)
		began := time.Now()
		sent[id] = began
		mu.Unlock()
		status, err := callers[worker].call(request)
		mu.Lock()
		answered = append(answered, time.Since(began).Seconds()*1e3)
		mu.Unlock()
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("a webhook was answered %d", status)
		}
		return err
	}
	// Until everybody is known, and as long again.
	if err := paced(ctx, e.pace(), paceWorkers, max(e.window/4, min(e.window, 2*warmPeople*time.Second/time.Duration(e.pace()))), do); err != nil {
		return nil, nil, err
	}
	if err := w.settled(ctx, time.Minute); err != nil {
		return nil, nil, err
	}
	clear(sent)
	answered = answered[:0]
	if err := e.profiled(ctx, w, "end_to_end", func() error { return paced(ctx, e.pace(), paceWorkers, 3*e.window, do) }, "slack", "conversation", "privacy", "connect")(); err != nil {
		return nil, nil, err
	}
	err = mesh.Eventually(ctx, time.Minute, func() error {
		took = took[:0]
		for id, at := range sent {
			told, ok, err := s.when(id)
			if err != nil {
				return err
			}
			if ok {
				took = append(took, told.Sub(at).Seconds()*1e3)
			}
		}
		if len(took) < len(sent) {
			return fmt.Errorf("%d messages of %d were never told of", len(sent)-len(took), len(sent))
		}
		return nil
	})
	return took, answered, err
}
