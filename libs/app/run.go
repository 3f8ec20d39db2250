package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/net/netutil"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/telemetry"
)

// HeapFloor bytes are allocated and never touched, so they take no memory: the garbage collector counts them as live and
// waits for as much garbage. Without them a service, whose live heap is small, collects a hundred times a second under
// load, which costs a sixth of its processor time.
const HeapFloor = 96 << 20

// Run builds the units' services and runs them until ctx ends, then stops them. It returns an error where
// something could not be started, or had to be left behind when stopping took too long; whatever was
// started is stopped in both cases.
func (p *Platform) Run(ctx context.Context, units ...Unit) (err error) {
	r := &run{p: p, directory: access.NewDirectory(p.Bus, p.Clock.Now), timeAsked: make(chan struct{})}
	defer func() { err = errors.Join(err, r.unwind()) }()
	if len(units) == 1 { // all services together live on more than that
		defer runtime.KeepAlive(make([]byte, HeapFloor))
	}
	if err := r.build(ctx, units); err != nil {
		return err
	}
	if err := r.serveProfiles(ctx); err != nil {
		return err
	}
	if err := r.startRegistry(ctx); err != nil {
		return err
	}
	if err := r.startJobs(ctx); err != nil {
		return err
	}
	failed, err := r.serve(ctx)
	if err != nil {
		return err
	}
	p.Telemetry.Log.InfoContext(ctx, "started", "services", r.names(), "listen", p.Listener.Addr().String())
	if p.Started != nil {
		p.Started(p.Listener.Addr())
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// run is one Run.
//
//bound:exempt filled while the process starts
type run struct {
	p         *Platform
	directory *access.Directory
	services  []*service
	stopping  stopping
	// timeAsked is closed once the registry was asked for the time.
	timeAsked chan struct{}
	// undo stops what was started, last first.
	undo []func(ctx context.Context) error
}

// service is a unit that was built.
type service struct {
	name      string
	telemetry *telemetry.Telemetry
	deps      *Deps
	parts     *Parts
}

func (r *run) build(ctx context.Context, units []Unit) error {
	r.undo = append(r.undo, func(context.Context) error { return r.p.closeDatabases() })
	for _, u := range units {
		d, err := r.p.deps(u)
		if err != nil {
			return fmt.Errorf("%s: %w", u.Service.Name, err)
		}
		r.undo = append(r.undo, func(context.Context) error { return d.Seal.Close() })
		parts, err := u.Service.Build(ctx, d)
		if err != nil {
			return fmt.Errorf("%s: %w", u.Service.Name, err)
		}
		if parts.Close != nil {
			r.undo = append(r.undo, func(context.Context) error { return parts.Close() })
		}
		r.services = append(r.services, &service{name: u.Service.Name, telemetry: d.Telemetry, deps: d, parts: parts})
	}
	return nil
}

// startRegistry serves the key registry where a service has it, before anybody asks.
func (r *run) startRegistry(ctx context.Context) error {
	for _, s := range r.services {
		if s.parts.GRPC == nil {
			continue
		}
		l := r.p.RegistryListener
		if l == nil {
			var err error
			if l, err = new(net.ListenConfig).Listen(ctx, "tcp", r.p.Common.Registry.Listen); err != nil {
				return fmt.Errorf("TRIBUTARY_REGISTRY_LISTEN: %w", err)
			}
		}
		job, err := s.parts.GRPC(l)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: key registry: %w", s.name, err), l.Close())
		}
		st := r.stage()
		if err := st.start(s.telemetry, s.name, job); err != nil {
			return err
		}
	}
	return nil
}

// startJobs begins with what the platform itself needs, then the services' Tables and jobs, then their
// subscriptions.
func (r *run) startJobs(ctx context.Context) error {
	own := r.stage()
	topics := r.topics()
	if err := r.ensureTopics(ctx, topics); err != nil {
		// Brokers that are away are no reason not to start: what was kept of Tables and the spool carry on.
		r.p.Telemetry.Log.WarnContext(ctx, "topics not ensured yet", "error", err)
		topicsJob := Job{Name: "topics", Run: func(ctx context.Context) error { return r.keepEnsuring(ctx, topics) }}
		if err := own.start(r.p.Telemetry, "app", topicsJob); err != nil {
			return err
		}
	}
	for _, j := range []Job{
		{Name: "time", Run: r.keepTime},
		{Name: "access", Run: r.directory.Run},
		{Name: "evictions", Run: r.evict},
		{Name: "holders", Run: r.publishHolders},
	} {
		if err := own.start(r.p.Telemetry, "app", j); err != nil {
			return err
		}
	}
	jobs := r.stage()
	for _, s := range r.services {
		for _, j := range s.parts.Jobs {
			if err := jobs.start(s.telemetry, s.name, j); err != nil {
				return err
			}
		}
	}
	subscriptions := r.stage()
	for _, s := range r.services {
		for _, sub := range s.parts.Subscriptions {
			j := Job{Name: "subscription " + sub.Group, Run: func(ctx context.Context) error { return r.p.Bus.Subscribe(ctx, sub) }}
			if err := subscriptions.start(s.telemetry, s.name, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// stage opens a group of jobs that stops after all that are opened later.
func (r *run) stage() *stage {
	s := newStage()
	r.undo = append(r.undo, s.stop)
	return s
}

// serve starts HTTP, last: whoever is answered finds everything running.
func (r *run) serve(ctx context.Context) (failed <-chan error, err error) {
	p := r.p
	if p.Listener == nil {
		if p.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", p.Common.Listen); err != nil {
			return nil, fmt.Errorf("TRIBUTARY_LISTEN: %w", err)
		}
	}
	handler, err := r.handler()
	if err != nil {
		return nil, err
	}
	server := newServer(handler)
	//bound:exempt receives once, when the server has ended
	ended := make(chan error, 1)
	//bound:exempt the server's own, which the process ends
	go func() {
		//bound:goroutines HTTP connections | twice {TRIBUTARY_MAX_REQUESTS} | the next waits to be accepted
		if err := server.Serve(netutil.LimitListener(p.Listener, 2*p.Common.MaxRequests)); !errors.Is(err, http.ErrServerClosed) {
			ended <- fmt.Errorf("HTTP: %w", err)
		}
	}()
	r.undo = append(r.undo, func(ctx context.Context) error {
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(fmt.Errorf("HTTP: %w", err), server.Close())
		}
		return nil
	}, r.preStop)
	return ended, nil
}

// preStop takes the process out of service: it says that it stops, serves until that must have been heard,
// ends its streams, and lets the services drain.
func (r *run) preStop(ctx context.Context) error {
	r.stopping.announce()
	if delay := r.p.Common.StopDelay; delay > 0 {
		//bound:timeout serving on once stopping was announced | {TRIBUTARY_STOP_DELAY} | streams end, and the services drain
		heard := time.NewTimer(delay)
		defer heard.Stop()
		select {
		case <-heard.C:
		case <-ctx.Done():
		}
	}
	r.stopping.begin()
	var errs []error
	for _, s := range r.services {
		if s.parts.PreStop != nil {
			if err := s.parts.PreStop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (r *run) unwind() error {
	//bound:timeout stopping | {TRIBUTARY_STOP_TIMEOUT} | what still runs is named and left behind
	ctx, cancel := context.WithTimeout(context.Background(), r.p.Common.StopTimeout)
	defer cancel()
	var errs []error
	for i := len(r.undo) - 1; i >= 0; i-- {
		errs = append(errs, r.undo[i](ctx))
	}
	return errors.Join(errs...)
}

func (r *run) names() []string {
	names := make([]string, len(r.services))
	for i, s := range r.services {
		names[i] = s.name
	}
	return names
}

// topics are the services' and the platform's own, each once.
func (r *run) topics() []bus.Topic {
	all := []bus.Topic{access.Topic(), holdersTopic(), commandsTopic()}
	for _, s := range r.services {
		all = append(all, s.parts.Topics...)
	}
	seen := map[string]bool{}
	var once []bus.Topic
	for _, t := range all {
		if !seen[t.Name] {
			seen[t.Name] = true
			once = append(once, t)
		}
	}
	return once
}

func (r *run) ensureTopics(ctx context.Context, topics []bus.Topic) error {
	//bound:timeout seeing to the topics at the start | {} | the process starts, and tries again in a job
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return r.p.Bus.EnsureTopics(ctx, topics...)
}

func (r *run) keepEnsuring(ctx context.Context, topics []bus.Topic) error {
	if err := r.ensureTopics(ctx, topics); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
