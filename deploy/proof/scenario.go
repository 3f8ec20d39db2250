package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// scenario is one kind of harm.
type scenario struct {
	// name and the harm in a sentence.
	name, harm string
	// parts that it can be done to: embedded, real.
	parts []string
	// small is the size that tests run it in.
	small int
	// times as many events as its size are there to be sent; 0: as many.
	times int
	// settings of the mesh that it needs, and with real parts the ground.
	settings map[string]string
	ground   ground
	// run loads and harms the mesh until every webhook is answered. An error says that the scenario could
	// not be carried out; what the mesh did wrong is told with broken, or found by comparing.
	run func(ctx context.Context, r *run) error
}

// Parts that a mesh is made of.
const (
	embedded = "embedded"
	real     = "real"
)

// scenarios in the order that they run.
func scenarios() []scenario {
	return []scenario{
		crash(),
		replay(),
		flood(),
		poison(),
		send(),
		zombie(),
		partition(),
		outage(),
		rebalance(),
		rolling(),
		clock(),
		erased(),
	}
}

// result is a line of the table.
type result struct {
	Scenario   string  `json:"scenario"`
	Parts      string  `json:"parts"`
	Accepted   int     `json:"accepted"`
	Lost       int     `json:"lost"`
	Doubled    int     `json:"doubled"`
	Disordered int     `json:"disordered"`
	LateMSMax  int64   `json:"late_ms_max"`
	Seconds    float64 `json:"seconds"`
	// Broken are further expectations that did not hold.
	Broken []string `json:"broken,omitempty"`
}

// holds: nothing of the scenario went wrong.
func (r result) holds() bool { return r.Lost+r.Doubled+r.Disordered+len(r.Broken) == 0 }

// options of a run.
type options struct {
	bin, parts string
	size       int
	seed       uint64
	// data is where the mesh writes.
	data string
	// own is what may be killed; nil: scenarios that need it can't run.
	own *ownParts
	// out gets the table, say lines of progress.
	out io.Writer
	say func(format string, a ...any)
}

// run is a scenario that runs.
type run struct {
	*world
	options
	scenario
	// rand plans the harm; of one goroutine.
	rand    *rand.Rand
	traffic *traffic
	ledger  *ledger
	stream  *stream
	sender  *sender
	replies replies
	// receipts are the webhooks that tell what became of replies: they are numbered behind the traffic's.
	receipts []webhook

	// besides are replies that the scenario has sent to people who are not of the traffic.
	besides map[string]bool

	mu   sync.Mutex
	told []string
}

// perConversation is how many webhooks a conversation has.
const perConversation = 40

// carryOut runs a scenario on a mesh of its own and compares.
func (s scenario) carryOut(ctx context.Context, o options) (result, error) {
	begun := time.Now()
	out := result{Scenario: s.name, Parts: o.parts}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return out, err
	}
	names := newTraffic(s.events(o), o.seed, begun).names()
	cfg, err := s.config(ctx, o)
	if err != nil {
		return out, err
	}
	w, err := openWorld(ctx, cfg, providers{users: names})
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := w.close(closing); err != nil {
			o.say("closing: %v", err)
		}
	}()
	if err != nil {
		return out, err
	}
	r := newRun(w, o, s, begun)
	stop := r.watch(ctx)
	defer stop()
	if err := s.run(ctx, r); err != nil {
		out.Broken = r.told // what was found before
		return out, fmt.Errorf("%s: %w", s.name, err)
	}
	shown, err := r.compared(ctx)
	if err != nil {
		return out, err
	}
	out.Accepted = r.ledger.count() + r.replies.count()
	o.say("%s: the latest message was accepted after %.1f s, and shown %s later", s.name, float64(shown.accepted)/1e6, shown.late.Round(time.Millisecond))
	out.LateMSMax, out.Seconds = shown.late.Milliseconds(), time.Since(begun).Seconds()
	out.Lost, out.Doubled, out.Disordered = shown.lost, shown.doubled, shown.disordered
	out.Broken = append(append(shown.broken, r.stream.broken()...), r.told...)
	return out, nil
}

// mostMore bounds the events that a scenario has beyond its size: what is remembered of each is 16 bytes.
const mostMore = 2_000_000

// events that the traffic has.
func (s scenario) events(o options) int {
	return o.size + min(o.size*max(s.times-1, 0), mostMore)
}

// newRun prepares one on a world.
func newRun(w *world, o options, s scenario, begun time.Time) *run {
	r := &run{besides: map[string]bool{}, world: w, options: o, scenario: s, rand: rand.New(rand.NewPCG(o.seed, 1)), traffic: newTraffic(s.events(o), o.seed, begun)}
	r.ledger = newLedger(r.traffic.events(), begun)
	r.stream, r.sender = newStream(w.api, r.ledger), newSender(r)
	return r
}

// watch follows the stream, which is open then, and says how far the run is, until stop is called.
func (r *run) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { r.stream.follow(ctx) })
	watching.Go(func() { r.progress(ctx) })
	select {
	case <-r.stream.open:
	case <-time.After(30 * time.Second):
		r.broken("the event stream did not open")
	case <-ctx.Done():
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// broken tells that something the mesh promises does not hold.
func (r *run) broken(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf(format, a...))
}

// load delivers all traffic.
func (r *run) load(ctx context.Context) error { return r.under(ctx, nil) }

// under delivers all traffic (one webhook in eight twice), and meanwhile harms the mesh. Its ctx ends when all is delivered; harm leaves
// the mesh running.
func (r *run) under(ctx context.Context, harm func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	harming, loaded := context.WithCancel(ctx)
	defer loaded()
	var harmed error
	var harmer sync.WaitGroup
	if harm != nil {
		harmer.Go(func() {
			if harmed = harm(harming); errors.Is(harmed, context.Canceled) {
				harmed = nil
			}
			if harmed != nil {
				cancel()
			}
		})
	}
	err := r.sender.deliverAll(ctx, r.everything())
	loaded()
	harmer.Wait()
	if harmed != nil {
		return fmt.Errorf("harm: %w", harmed)
	}
	return err
}

// awaitTaken waits until n webhooks more were answered 2xx.
func (r *run) awaitTaken(ctx context.Context, n int64) error {
	for until := r.sender.taken.Load() + n; r.sender.taken.Load() < until; {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// progress says how far it is, every few seconds.
func (r *run) progress(ctx context.Context) {
	for pause(ctx, 5*time.Second) == nil {
		replies := ""
		if n := r.replies.count(); n > 0 {
			replies = fmt.Sprintf("; %d of %d replies ended", r.stream.endedCount(), n)
		}
		r.say("%s: %d of %d accepted, %d messages shown, %d answered 503, %d without an answer%s", r.name,
			r.ledger.count(), r.ledger.size(), r.stream.count(), r.sender.unavailable.Load(), r.sender.failed.Load(), replies)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// logs are the ends of what the mesh's processes logged.
func logs(data string) string {
	files, _ := filepath.Glob(filepath.Join(data, "*.log"))
	var text string
	for _, name := range files {
		log, err := os.ReadFile(name)
		if err == nil {
			text += fmt.Sprintf("the end of %s:\n%s\n", filepath.Base(name), log[max(0, len(log)-4000):])
		}
	}
	return text
}
