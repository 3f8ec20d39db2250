package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/sony/gobreaker/v2"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Accounts is what an Ingress asks of accounts.Accounts.
type Accounts interface {
	Connections
	App(name string) (accounts.App, bool)
	Opened(ctx context.Context, c *pb.Connection) (*channel.Connection, error)
	Confirm(ctx context.Context, since time.Time) error
}

// Connections are found by what webhooks name.
type Connections interface {
	Connection(id string) (*pb.Connection, bool)
	ByAccount(externalID string) (*pb.Connection, bool)
	GrantedBy(grantor string) []*pb.Connection
}

// Registry is what an Ingress asks of seal.Client.
type Registry interface {
	Acquire(ctx context.Context, acts []seal.Act) ([]seal.Subject, error)
	Cached(acts []seal.Act) ([]seal.Subject, bool)
	Find(ctx context.Context, ids []seal.Identity) ([]seal.Subject, error)
	OpenSpool(ctx context.Context, items []*pb.OpenSpoolRequest_Item) ([]*pb.OpenSpoolResponse_Item, error)
}

// Publisher is what an Ingress asks of bus.Bus.
type Publisher interface {
	Publish(ctx context.Context, msgs ...bus.Message) error
}

// Bucket is what an Ingress asks of media.Bucket.
type Bucket interface {
	Store(ctx context.Context, subject seal.Subject, ref *pb.AttachmentRef, plain io.Reader) (*pb.AttachmentRef, error)
}

// SpoolKeys is what an Ingress asks of SpoolKeyTable.
type SpoolKeys interface {
	Current(now time.Time) (*pb.SpoolKey, bool)
}

// Deps of an Ingress.
type Deps struct {
	Adapter   channel.Adapter
	Features  channel.Features
	Accounts  Accounts
	Registry  Registry
	Publisher Publisher
	SpoolKeys SpoolKeys
	Bucket    Bucket
	Clock     *clock.Clock
	Telemetry *telemetry.Telemetry
}

// Ingress takes one channel's webhooks in.
type Ingress struct {
	cfg Config
	Deps
	topic   string
	fetches *fetches // nil: the adapter fetches nothing
	urls    publicURLs
	spool   *spool.Spool
	metrics *metrics

	bodies              room
	requests, strangers chan struct{} // places for requests, and for those with an unknown ref among them
	registryBreaker     *gobreaker.CircuitBreaker[struct{}]
	publishBreaker      *gobreaker.CircuitBreaker[struct{}]

	draining chan struct{} // held by who drains: the job, or PreStop
	arrived  chan struct{} // receives after the spool was empty
}

// New makes an Ingress and opens its spool; Close closes it. The jobs of Parts must run.
func New(cfg Config, d Deps) (*Ingress, error) {
	if err := errors.Join(cfg.Validate(), d.Features.Validate()); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	s, err := spool.Open(spool.Config{Dir: filepath.Join(cfg.DataDir, "spool"), MaxBytes: cfg.SpoolBytes})
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	in := &Ingress{
		cfg: cfg, Deps: d, spool: s,
		topic:  inbound.Events(d.Adapter.Name()).Name,
		urls:   newPublicURLs(cfg),
		bodies: room{limit: cfg.BodyBytes},
		//bound:limit webhooks of a channel under way | {maxRequests} | 503
		requests: make(chan struct{}, cfg.MaxRequests),
		//bound:limit webhooks under way that name what is not known | an eighth of those | 503
		strangers: make(chan struct{}, max(1, cfg.MaxRequests/8)),
		//bound:limit who drains the spool | {} | the other waits
		draining: make(chan struct{}, 1),
		//bound:queue wake-ups of who drains the spool | {} | the next is dropped: one is enough
		arrived: make(chan struct{}, 1),
	}
	if _, ok := d.Adapter.(channel.Fetcher); ok {
		in.fetches = newFetches()
	}
	in.registryBreaker = newBreaker(in, "registry")
	in.publishBreaker = newBreaker(in, "publish")
	if in.metrics, err = newMetrics(d.Telemetry.Meter, d.Adapter.Name(), s, d.Clock); err != nil {
		return nil, errors.Join(fmt.Errorf("ingress: %w", err), s.Close())
	}
	return in, nil
}

// Build makes the Ingress of a service and the service's parts: routes, the topic, the jobs that keep accounts and
// spool keys and drain the spool, readiness, and the drain before stopping.
func Build(cfg Config, d *app.Deps, adapter channel.Adapter, features channel.Features, a *accounts.Accounts, bucket Bucket) (*Ingress, *app.Parts, error) {
	cfg.PublicURL, cfg.TrustedProxies = d.Common.PublicURL, d.Common.TrustedProxies
	keys := NewSpoolKeyTable(d.Bus, cfg.DataDir)
	in, err := New(cfg, Deps{
		Adapter: adapter, Features: features, Accounts: a, Registry: d.Seal, Publisher: d.Bus, SpoolKeys: keys,
		Bucket: bucket, Clock: d.Clock, Telemetry: d.Telemetry,
	})
	if err != nil {
		return nil, nil, err
	}
	ready := func(what string, is func() bool) app.Check {
		return app.Check{Name: what, Ready: func() error {
			if !is() {
				return fmt.Errorf("%s: not read to the end yet", what)
			}
			return nil
		}}
	}
	pattern := "/webhooks/" + adapter.Name() + "/{ref}"
	return in, &app.Parts{
		Routes: []app.Route{
			{Pattern: "POST " + pattern, Handler: in, Public: true, Prompt: true},
			{Pattern: "GET " + pattern, Handler: in, Public: true, Prompt: true},
		},
		Topics: append(accounts.Topics(), bus.Topic{Name: SpoolKeysTopic, Compacted: true},
			inbound.Events(adapter.Name()), inbound.Fetch(adapter.Name()), inbound.Revocations()),
		Jobs: []app.Job{
			{Name: "accounts", Run: a.Run},
			{Name: "spoolkeys", Run: keys.Run},
			{Name: "drain", Run: in.Drain},
		},
		Ready:   []app.Check{ready("accounts", a.Ready), ready("spoolkeys", keys.Ready)},
		PreStop: in.Flush,
		Close:   func() error { return errors.Join(in.Close(), a.Close()) },
	}, nil
}

// Close closes the spool.
func (in *Ingress) Close() error {
	return errors.Join(in.metrics.close(), in.spool.Close())
}

var _ http.Handler = (*Ingress)(nil)

// newBreaker opens after one failure and lets one request probe after the pause.
func newBreaker(in *Ingress, name string) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name,
		//bound:limit requests that try a registry or broker that has failed | {} | the others go to the spool
		MaxRequests: 1,
		//bound:retry a registry or broker that has failed | after {Config.BreakerPause}, by one request | its budget, once; then the pause again
		Timeout:     in.cfg.BreakerPause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures > 0 },
		// Too much in flight, or what is refused for its data, is no outage: it is spooled, the others go on.
		IsExcluded: func(err error) bool { return errors.Is(err, bus.ErrFull) || dataFault(err) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			in.Telemetry.Log.Warn("ingress: breaker", "channel", in.Adapter.Name(), "breaker", name, "from", from.String(), "to", to.String())
		},
	})
}
