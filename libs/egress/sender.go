package egress

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/media"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// sender is what the lanes of one process share: the provider, its limits, and the workers that call it.
type sender struct {
	cfg       Config
	channel   string
	provider  channel.Sender
	keys      Keys
	accounts  Accounts
	clock     *clock.Clock
	log       *slog.Logger
	tracer    trace.Tracer
	meters    *meters
	bucket    *media.Bucket
	links     *media.Links
	publisher publisher
	receipts  Receipts
	dead      deadLetters
	pace      *pacer

	// slots are as many as commands may be taken and not yet reported.
	slots   chan struct{}
	workers sync.WaitGroup

	mu    sync.Mutex
	ended bool
	lanes sync.WaitGroup

	// calls ends when calls under way are cut off, reports when reporting is given up: the process's end.
	// stopping ends when nothing more may be begun.
	calls, reports, stopping       context.Context
	cutCalls, endReports, stopHere context.CancelFunc

	// sleep waits for d or until ctx ends.
	sleep func(ctx context.Context, d time.Duration) error
}

// publisher publishes events onto the inbound topic.
type publisher interface {
	publish(ctx context.Context, events ...*pb.ChannelEvent) error
}

// deadLetters takes what can't be read.
type deadLetters interface {
	Publish(ctx context.Context, msgs ...bus.Message) error
}

// reportGrace is what reports have left at most once the calls were cut off.
const reportGrace = 5 * time.Second

func newSender(cfg Config, name string, provider channel.Sender, deps Deps, in publisher, receipts Receipts, m *meters) *sender {
	s := &sender{
		cfg: cfg, channel: name, provider: provider, keys: deps.Keys, accounts: deps.Accounts, clock: deps.Clock,
		log: deps.Telemetry.Log, tracer: deps.Telemetry.Tracer, meters: m, bucket: deps.Bucket, links: deps.Links,
		publisher: in, receipts: receipts, dead: deps.Bus,
		//bound:limit commands taken and not yet reported | {Config.Calls} | partitions wait
		pace: newPacer(cfg.Hold, cfg.CallsPerConnection), slots: make(chan struct{}, cfg.Calls), sleep: sleep,
	}
	s.calls, s.cutCalls = context.WithCancel(context.Background())
	s.reports, s.endReports = context.WithCancel(context.Background())
	s.stopping, s.stopHere = context.WithCancel(context.Background())
	return s
}

// start hands a committed group to workers of the process.
func (s *sender) start(group []*taken) {
	for _, t := range group {
		if t.cmd != nil {
			s.meters.outstanding(1)
			//bound:goroutines calls to the provider, and their reports | {Config.Calls} | partitions wait
			s.workers.Go(func() {
				defer s.meters.outstanding(-1)
				defer s.release(t)
				s.report(s.deliver(t))
			})
		}
	}
}

// inLane runs a lane, unless the process is at its end.
func (s *sender) inLane(run func()) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.lanes.Add(1)
	s.mu.Unlock()
	defer s.lanes.Done()
	run()
}

// stop begins nothing more, gives calls under way StopWithin, then cuts them off, and lets what came of
// all be reported.
func (s *sender) stop() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.lanes.Wait() // a commit under way is waited for
	s.stopHere()
	//bound:timeout calls under way when the process stops | four fifths of {TRIBUTARY_STOP_TIMEOUT} | cut off: unknown
	cut := time.AfterFunc(s.cfg.StopWithin, s.cutCalls)
	defer cut.Stop()
	//bound:timeout reports once calls were cut off | a quarter of that, {reportGrace} at most | given up: the sweeper finds them unknown
	end := time.AfterFunc(s.cfg.StopWithin+min(reportGrace, s.cfg.StopWithin/4), s.endReports)
	defer end.Stop()
	s.workers.Wait()
	s.cutCalls()
	s.endReports()
}

// abandon gives back what a lane held for commands that it did not commit.
func (s *sender) abandon(all []*taken) {
	for _, t := range all {
		s.release(t)
	}
}

func (s *sender) release(t *taken) {
	if t.slot {
		t.slot = false
		<-s.slots
	}
	if t.seated {
		t.seated = false
		s.pace.stand(t.cmd.GetConnectionId())
	}
}

func (s *sender) trySlot(t *taken) bool {
	select {
	case s.slots <- struct{}{}:
		t.slot = true
		return true
	default:
		return false
	}
}

func (s *sender) awaitSlot(ctx context.Context, t *taken) error {
	select {
	case s.slots <- struct{}{}:
		t.slot = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// insist calls f until it succeeds; an error means that ctx has ended.
func (s *sender) insist(ctx context.Context, what string, f func() error) error {
	//bound:retry reports, announcements, and asking the registry and the tables | growing to {} | goes on; the partition or the call's place waits
	const longest = 2 * time.Second
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, longest) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.WarnContext(ctx, "egress: waiting", "for", what, "channel", s.channel, "error", err)
		if err := s.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// bury publishes a record that can't be read as a dead letter, for as long as that takes.
func (s *sender) bury(ctx context.Context, r bus.Record) error {
	letter := bus.Message{Topic: bus.DeadTopic(r.Topic), Key: r.Key, Value: r.Value, Headers: append(r.Headers[:len(r.Headers):len(r.Headers)],
		bus.Header{Key: bus.HeaderDeadReason, Value: []byte("decode")},
		bus.Header{Key: bus.HeaderDeadGroup, Value: []byte(s.channel + "-send")},
		bus.Header{Key: bus.HeaderDeadTopic, Value: []byte(r.Topic)},
		bus.Header{Key: bus.HeaderDeadPartition, Value: []byte(strconv.Itoa(r.Partition))},
		bus.Header{Key: bus.HeaderDeadOffset, Value: []byte(strconv.FormatInt(r.Offset, 10))})}
	s.log.ErrorContext(ctx, "egress: a command can't be read", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
	return s.insist(ctx, "dead letter", func() error { return s.dead.Publish(ctx, letter) })
}

func sleep(ctx context.Context, d time.Duration) error {
	//bound:exempt as long as its caller says, and no longer than the context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
