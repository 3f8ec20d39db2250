package egress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Config of an Egress. Zero values are the design's.
type Config struct {
	// PublicURL is where providers reach the mesh; empty: no callback is asked for.
	PublicURL string
	// Late is how long after a command's position a call may still begin; 0 is 5 minutes. The
	// conversation service's sweeper counts on it, so its setting must be the same.
	Late time.Duration
	// LongestCall bounds what is done about one command at the provider; 0 is the channel's own.
	LongestCall time.Duration
	// Hold is how long a partition waits for a provider's limit, and a worker before it tries again; what
	// would have to wait longer is deferred. 0 is 2 s.
	Hold time.Duration
	// Calls bounds the commands that were taken and are not yet reported; 0 is 256.
	Calls int
	// CallsPerConnection bounds those of one connection, so that a slow one leaves room; 0 is 64: as many as the conversation service lets out.
	CallsPerConnection int
	// StopWithin is what calls under way are given at the end, and a quarter of it more (5 s at most) what
	// reports are; 0 is 20 s.
	StopWithin time.Duration
	// Fetches bounds what is fetched at once for one partition; 0 is 4.
	Fetches int
	// FetchTries is how often a passing failure is met before it counts as final; 0 is 4.
	FetchTries int
}

// Deps of an Egress.
type Deps struct {
	// Adapter of the channel: a channel.Sender is sent with, a channel.Fetcher fetched with.
	Adapter   channel.Adapter
	Bus       *bus.Bus
	Keys      Keys
	Accounts  Accounts
	Clock     *clock.Clock
	Telemetry *telemetry.Telemetry
	// Receipts takes outcomes in; nil: they are published. An adapter's ingress takes them as it takes
	// webhooks: publish, else spool.
	Receipts Receipts
	// Bucket and Media: what attachments are fetched with and kept in, and sent from.
	Bucket *media.Bucket
	Media  *media.Client
	// Links gives attachments addresses that the provider can fetch them at; nil: it can't.
	Links *media.Links
}

// Keys is what egress needs of the registry's client.
type Keys interface {
	Open(ctx context.Context, purpose pb.Purpose, parts []seal.Sealed) ([]seal.Opened, error)
	Keys(ctx context.Context, workspace string, purpose pb.Purpose, keyIDs []string) (map[string]seal.Subject, map[string]error, error)
}

// Accounts is what egress needs of accounts.Accounts.
type Accounts interface {
	Connection(id string) (*pb.Connection, bool)
	Confirm(ctx context.Context, since time.Time) error
	Opened(ctx context.Context, c *pb.Connection) (*channel.Connection, error)
}

// Receipts makes an event durable. A nil error means that it is; after any other it is handed over again,
// so taking it twice must do no harm (its id is the same each time).
type Receipts interface {
	Report(ctx context.Context, event *pb.ChannelEvent) error
}

// Egress sends and fetches for one channel.
type Egress struct {
	cfg      Config
	deps     Deps
	channel  string
	events   *events
	meters   *meters
	sender   channel.Sender  // nil: the channel can't send
	fetcher  channel.Fetcher // nil: the channel has nothing to fetch
	receipts Receipts
}

// New makes an Egress; Run starts it.
func New(cfg Config, deps Deps) (*Egress, error) {
	if deps.Adapter == nil || deps.Bus == nil || deps.Keys == nil || deps.Accounts == nil || deps.Clock == nil || deps.Telemetry == nil || deps.Bucket == nil || deps.Media == nil {
		return nil, errors.New("egress: every one of Deps but Receipts is required")
	}
	e := &Egress{cfg: cfg, deps: deps, channel: deps.Adapter.Name(), receipts: deps.Receipts}
	var err error
	if err = e.cfg.complete(e.channel); err != nil {
		return nil, err
	}
	if e.meters, err = newMeters(deps.Telemetry.Meter, e.channel); err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	e.events = &events{bus: deps.Bus}
	if e.receipts == nil {
		e.receipts = e.events
	}
	e.sender, _ = deps.Adapter.(channel.Sender)
	e.fetcher, _ = deps.Adapter.(channel.Fetcher)
	return e, nil
}

func (c *Config) complete(name string) error {
	defaults := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	number := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	standard := Config{
		LongestCall: time.Minute, Late: 5 * time.Minute, Hold: 2 * time.Second, StopWithin: 20 * time.Second,
		Calls: 256, CallsPerConnection: 64, Fetches: 4, FetchTries: 4,
	}
	if f, ok := channel.Lookup(name); ok {
		standard.LongestCall = time.Duration(f.LongestCall) * time.Second
	}
	defaults(&c.LongestCall, standard.LongestCall)
	defaults(&c.Late, standard.Late)
	defaults(&c.Hold, standard.Hold)
	defaults(&c.StopWithin, standard.StopWithin)
	number(&c.Calls, standard.Calls)
	number(&c.CallsPerConnection, standard.CallsPerConnection)
	number(&c.Fetches, standard.Fetches)
	number(&c.FetchTries, standard.FetchTries)
	var faults []error
	for setting, value := range map[string]time.Duration{"Late": c.Late, "LongestCall": c.LongestCall, "Hold": c.Hold, "StopWithin": c.StopWithin} {
		if value < 0 {
			faults = append(faults, fmt.Errorf("egress: %s is negative", setting))
		}
	}
	for setting, value := range map[string]int{"Calls": c.Calls, "CallsPerConnection": c.CallsPerConnection, "Fetches": c.Fetches, "FetchTries": c.FetchTries} {
		if value < 0 {
			faults = append(faults, fmt.Errorf("egress: %s is negative", setting))
		}
	}
	return errors.Join(faults...)
}

// Run sends and fetches until ctx ends. Then it takes nothing more, reports what it has taken and not
// begun as deferred, and gives calls and reports under way StopWithin; a call cut off by that ends as
// unknown.
func (e *Egress) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if e.sender != nil {
		g.Go(func() error { return e.send(ctx) })
	}
	if e.fetcher != nil {
		g.Go(func() error { return e.fetch(ctx) })
	}
	if e.sender == nil && e.fetcher == nil { // a channel that only takes in
		<-ctx.Done()
	}
	return g.Wait()
}

func (e *Egress) send(ctx context.Context) error {
	s := newSender(e.cfg, e.channel, e.sender, e.deps, e.events, e.receipts, e.meters)
	defer s.stop()
	topic := outboundTopic(e.channel)
	if s.insist(ctx, "topics", func() error {
		return e.deps.Bus.EnsureTopics(ctx, bus.Topic{Name: bus.DeadTopic(topic), Partitions: 1, Retention: 30 * 24 * time.Hour})
	}) != nil {
		return nil // ctx has ended
	}
	return e.deps.Bus.Consume(ctx, e.channel+"-send", []string{topic}, func(ctx context.Context, p *bus.Partition) {
		s.inLane(func() { newLane(s, p.Topic, p.Partition, p.Metadata).run(ctx, p) })
	})
}

func (e *Egress) fetch(ctx context.Context) error {
	f := newFetcher(e.cfg, e.channel, e.fetcher, e.deps, e.events, e.meters)
	return e.deps.Bus.Subscribe(ctx, bus.Subscription{
		Group: e.channel + "-fetch", Topics: []string{inbound.Fetch(e.channel).Name}, MaxBatch: 100, Handle: f.handle,
	})
}

func outboundTopic(channel string) string { return "outbound." + channel }

// events publishes what egress itself has to say.
type events struct{ bus *bus.Bus }

// Report implements Receipts.
func (e *events) Report(ctx context.Context, event *pb.ChannelEvent) error {
	return e.publish(ctx, event)
}

func (e *events) publish(ctx context.Context, events ...*pb.ChannelEvent) error {
	var msgs []bus.Message
	for _, event := range events {
		value, err := proto.Marshal(event)
		if err != nil {
			return fmt.Errorf("egress: event: %w", err)
		}
		m := inbound.Message(event, value, telemetry.Inject(ctx, nil))
		msgs = append(append(msgs, m), inbound.Copies(event, m, false)...)
	}
	return e.bus.Publish(ctx, msgs...)
}
