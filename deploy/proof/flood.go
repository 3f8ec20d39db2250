package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tributary.dev/deploy/mesh"
)

// flood finds the rate at which messages are shown as fast as they come, and then sends ten times as many for
// a minute. The mesh answers 2xx, waits or says 503; its memory stays bounded, and what it answered 2xx
// arrives.
func flood() scenario {
	return scenario{
		name: "flood", harm: "10 times the sustainable rate for a minute",
		parts: []string{embedded, real}, small: 600, times: 40,
		run: func(ctx context.Context, r *run) error {
			rate, err := r.sustainable(ctx, r.size)
			if err != nil {
				return err
			}
			before, err := r.Resident()
			if err != nil {
				return err
			}
			lasting := min(time.Minute, max(time.Duration(r.size)*3*time.Millisecond, 5*time.Second))
			watching, stop := context.WithCancel(ctx)
			defer stop()
			var watcher sync.WaitGroup
			var most int64
			watcher.Go(func() {
				for pause(watching, 100*time.Millisecond) == nil {
					if now, err := r.Resident(); err == nil {
						most = max(most, now)
					}
				}
			})
			flooded, err := r.pour(ctx, 10*rate, lasting)
			if err != nil {
				return err
			}
			r.say("flood: %.0f a second are sustained; %s of ten times that: %s", rate, lasting, flooded)
			if err := mesh.Eventually(ctx, r.patience(), func() error { return r.Drained(ctx) }); err != nil {
				return err
			}
			stop()
			watcher.Wait()
			r.say("flood: %d MiB resident before, and %d MiB at most", before>>20, most>>20)
			if most-before > floodBytes {
				r.broken("%d MiB were resident at most, %d MiB more than before", most>>20, (most-before)>>20)
			}
			return nil
		},
	}
}

const (
	// underway is how many requests of the flood are under way at most.
	underway = 1024
	// floodBytes is what the mesh's memory may grow by: for each request under way its connection, buffers,
	// events and spans, 128 KiB in all, and as much again that is not collected yet. Whatever waits without a
	// bound grows beyond within seconds.
	floodBytes = 2 * underway * 128 << 10
	// giveUp is for how long Slack waits for an answer, and how often it sends a webhook.
	giveUp, giveUpTries = 3 * time.Second, 4
)

// sustainable is how many events a second are shown, from the first sent to the last shown, of the run's
// first ones.
func (r *run) sustainable(ctx context.Context, events int) (perSecond float64, err error) {
	began := time.Now()
	order := shuffled(events, events+1, r.seed, 0)
	if err := r.sender.deliverAll(ctx, order); err != nil {
		return 0, err
	}
	last, at := -1, time.Now()
	for time.Since(at) < time.Second { // until nothing more is shown
		if n := r.stream.taken(); n != last {
			last, at = n, time.Now()
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return float64(events) / at.Sub(began).Seconds(), nil
}

// poured counts what became of a flood.
type poured struct {
	offered, accepted, givenUp, heldBack int64
	unavailable, unanswered              int64
}

func (p poured) String() string {
	return fmt.Sprintf("%d webhooks sent, %d answered 2xx, %d given up after %d answers of 503 and %d without an answer; %d could not be sent, so many waited",
		p.offered, p.accepted, p.givenUp, p.unavailable, p.unanswered, p.heldBack)
}

// pour sends events that were not sent yet at a rate, whatever is answered.
func (r *run) pour(ctx context.Context, perSecond float64, lasting time.Duration) (p poured, err error) {
	s := newSender(r)
	s.tries, s.within = giveUpTries, giveUp
	accepted := r.ledger.count()
	var next atomic.Int64
	next.Store(int64(r.size))
	places := make(chan *line, underway)
	for range underway {
		l := s.line()
		defer l.Close()
		places <- l
	}
	began, due := time.Now(), 0.0
	var pouring sync.WaitGroup
	var mu sync.Mutex
	var fault error
	for time.Since(began) < lasting && ctx.Err() == nil {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			break
		}
		for now := perSecond * time.Since(began).Seconds(); due < now; due++ {
			event := next.Add(1) - 1
			if event >= int64(r.traffic.events()) {
				r.say("flood: it ends early, for want of events")
				lasting = 0
				break
			}
			select {
			case l := <-places:
				p.offered++
				pouring.Go(func() {
					defer func() { places <- l }()
					if err := s.deliver(ctx, int(event), l); err != nil {
						mu.Lock()
						fault = err
						mu.Unlock()
					}
				})
			default: // a provider's own bound
				p.heldBack++
				next.Add(-1)
			}
		}
	}
	pouring.Wait()
	p.accepted = int64(r.ledger.count() - accepted)
	p.givenUp = p.offered - p.accepted
	p.unavailable, p.unanswered = s.unavailable.Load(), s.failed.Load()
	r.sender.unavailable.Add(p.unavailable)
	r.sender.failed.Add(p.unanswered)
	return p, fault
}
