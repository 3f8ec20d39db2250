package adapter

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	// pollCall bounds one question; a provider's limit may hold it up.
	pollCall = time.Minute
	// pollsAtOnce connections of a channel are asked.
	pollsAtOnce = 4
	// pollPages are asked for before others get their turn.
	pollPages = 60
	// pollPagePause lies between two pages of one connection: no provider lets fewer than two calls a second pass.
	pollPagePause = 500 * time.Millisecond
	// pollOverlap is asked for once more: a provider may show late what it says happened before.
	pollOverlap = 2 * time.Minute
	// firstPollPause is how long a connection is left alone that could not be asked; longestPollPause in turns.
	//bound:retry asking a connection's provider | after {firstPollPause}, growing to {longestPollPause} times the channel's schedule, and not before the provider lets | the others are asked meanwhile
	firstPollPause   = 10 * time.Second
	longestPollPause = 6
	// pollLook is how often it is looked whose turn it is.
	pollLook = time.Second
)

// pollAccounts is what a poller asks of accounts.Accounts.
type pollAccounts interface {
	Ready() bool
	Connections() []*pb.Connection
	Opened(ctx context.Context, c *pb.Connection) (*channel.Connection, error)
}

// poller asks the providers of a channel's connections for what their webhooks may have failed to tell.
//
// What is guaranteed:
//
//   - How far a connection was asked lies on the service's volume, and moves only once everything up to there is
//     durable. After a crash, the rest is asked for again.
//   - A connection that can't be asked, or whose provider bids to wait, keeps nobody else from being asked.
//   - Every replica asks for itself: what two of them are told has the same ids, and counts once. So nobody has to
//     agree on who asks, and a replica that is lost is missed by nobody.
type poller struct {
	channel  string
	provider channel.Poller
	accounts pollAccounts
	inlet    channel.Inlet
	marks    marks
	// back is how far a connection is asked back that never was before.
	back  time.Duration
	clock *clock.Clock
	log   *slog.Logger
	polls metric.Int64Counter

	mu sync.Mutex
	//bound:exempt one a connection that is active
	turns map[string]*turn
}

// turn is when a connection is to be asked next.
type turn struct {
	due      time.Time
	asking   bool
	failures int
}

func newPoller(name string, provider channel.Poller, known pollAccounts, inlet channel.Inlet, dir string, back time.Duration, clk *clock.Clock, tel *telemetry.Telemetry) (*poller, error) {
	polls, err := tel.Meter.Int64Counter("tributary_polls_total",
		metric.WithDescription("Pages that a provider was asked for, of what its webhooks may have failed to tell, by what came of it."))
	return &poller{
		channel: name, provider: provider, accounts: known, inlet: inlet, marks: marks{dir: dir}, back: back, clock: clk, log: tel.Log,
		polls: polls, turns: map[string]*turn{},
	}, err
}

// Run asks until ctx ends.
func (p *poller) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	//bound:limit connections of a channel that are asked at once | {pollsAtOnce} | the others wait for their turn
	places := make(chan struct{}, pollsAtOnce)
	swept := false
	for pause(ctx, pollLook) {
		if !p.accounts.Ready() {
			continue
		}
		if !swept {
			p.sweep()
			swept = true
		}
		for _, c := range p.due(time.Now()) {
			select {
			case places <- struct{}{}:
			default:
				p.giveBack(c.GetId())
				continue
			}
			//bound:goroutines connections of a channel that are asked | {pollsAtOnce} | the others wait for their turn
			asking.Go(func() {
				defer func() { <-places }()
				p.ask(ctx, c)
			})
		}
	}
	return nil
}

// due gives the active connections whose turn it is, and takes their turns. One that is new gets its first within a
// tenth of the schedule, so that a restart asks nobody's provider about all connections at once.
func (p *poller) due(now time.Time) (due []*pb.Connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	active := map[string]bool{}
	for _, c := range p.accounts.Connections() {
		if c.GetStatus() != pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE {
			continue
		}
		active[c.GetId()] = true
		t := p.turns[c.GetId()]
		if t == nil {
			t = &turn{due: now.Add(time.Duration(rand.Float64() * float64(p.provider.PollEvery()) / 10))}
			p.turns[c.GetId()] = t
		}
		if !t.asking && !now.Before(t.due) {
			t.asking = true
			due = append(due, c)
		}
	}
	for id, t := range p.turns {
		if !active[id] && !t.asking {
			delete(p.turns, id)
		}
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	return due
}

// giveBack a turn for which there is no place.
func (p *poller) giveBack(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns[id].asking = false
}

// ask is a connection's turn.
func (p *poller) ask(ctx context.Context, c *pb.Connection) {
	more, err := p.pages(ctx, c)
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.turns[c.GetId()]
	t.asking = false
	every := p.provider.PollEvery()
	var wait time.Duration
	switch {
	case err != nil:
		t.failures++
		wait = min(min(firstPollPause, every)<<min(t.failures-1, 30), longestPollPause*every)
		var e *channel.Error
		if errors.As(err, &e) {
			wait = max(wait, e.RetryAfter)
		}
	case more:
		t.failures = 0
	default:
		t.failures, wait = 0, every
	}
	t.due = time.Now().Add(time.Duration(float64(wait) * (0.9 + rand.Float64()/5)))
	if err != nil && ctx.Err() == nil {
		p.log.WarnContext(ctx, "poll: a connection could not be asked", "channel", p.channel, "connection_id", c.GetId(), "code", code(err), "again_in_ms", wait.Milliseconds())
	}
}

// pages asks for what is new, page by page, and takes it in. more: there is some left.
func (p *poller) pages(ctx context.Context, c *pb.Connection) (more bool, err error) {
	conn, err := p.accounts.Opened(ctx, c)
	if err != nil {
		p.count(ctx, "no_credentials")
		return false, &channel.Error{Class: channel.ClassRetry, Code: "no_credentials"}
	}
	mark, err := p.marks.read(c.GetId())
	if err != nil {
		p.count(ctx, "no_mark")
		return false, &channel.Error{Class: channel.ClassRetry, Code: "no_mark"}
	}
	since := mark.Add(-pollOverlap)
	if mark.IsZero() {
		since = p.clock.Now().Add(-p.back)
	}
	for range pollPages {
		var next time.Time
		var result channel.Result
		if result, next, more, err = p.page(ctx, conn, since); err != nil {
			p.count(ctx, class(err))
			p.void(ctx, conn, err)
			return false, err
		}
		if err := p.inlet.Take(ctx, conn, result); err != nil {
			p.count(ctx, "not_taken")
			return false, &channel.Error{Class: channel.ClassRetry, Code: "not_taken"}
		}
		if next.After(mark) {
			if err := p.marks.write(c.GetId(), next); err != nil {
				p.count(ctx, "no_mark")
				return false, &channel.Error{Class: channel.ClassRetry, Code: "no_mark"}
			}
			mark = next
		}
		p.count(ctx, "taken")
		if !more {
			return false, nil
		}
		if !next.After(since) {
			return false, &channel.Error{Class: channel.ClassReject, Code: "no_progress"}
		}
		since = next
		if !pause(ctx, pollPagePause) {
			return false, nil
		}
	}
	return more, nil
}

// page is one call of the adapter. One that panics has failed.
func (p *poller) page(ctx context.Context, conn *channel.Connection, since time.Time) (result channel.Result, next time.Time, more bool, err error) {
	//bound:timeout asking a provider for one page | {pollCall} | asked again later
	ctx, cancel := context.WithTimeout(ctx, pollCall)
	defer cancel()
	defer func() {
		if recover() != nil { // its words may be a person's
			err = &channel.Error{Class: channel.ClassReject, Code: "panic"}
		}
	}()
	return p.provider.Poll(ctx, conn, since)
}

// void tells connect that the provider takes a connection's credentials no more: it is asked no further.
func (p *poller) void(ctx context.Context, conn *channel.Connection, err error) {
	var e *channel.Error
	if !errors.As(err, &e) || e.Class != channel.ClassReauthorise {
		return
	}
	now := p.clock.Now()
	_ = p.inlet.Take(ctx, conn, channel.Result{Events: []channel.Event{{ // said again at the next turn
		Type: channel.TypeRevocation, Account: conn.ExternalID, Key: "poll/" + strconv.FormatInt(now.UnixMicro(), 10), IDTime: now,
		SourceType: "poll", Reason: e.Code,
	}}})
}

func (p *poller) count(ctx context.Context, outcome string) {
	p.polls.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", p.channel), attribute.String("outcome", outcome)))
}

// sweep deletes the marks of connections that are no more.
func (p *poller) sweep() {
	known := map[string]bool{}
	for _, c := range p.accounts.Connections() {
		known[c.GetId()] = true
	}
	if err := p.marks.sweep(known); err != nil {
		p.log.Warn("poll: marks of connections that are no more stay", "channel", p.channel, "error", err)
	}
}

func class(err error) string {
	var e *channel.Error
	if errors.As(err, &e) && e.Class != "" {
		return string(e.Class)
	}
	return "failed"
}

func code(err error) string {
	var e *channel.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "failed"
}

// pause tells whether d has passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	//bound:exempt as long as the caller says, and no longer than the context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
