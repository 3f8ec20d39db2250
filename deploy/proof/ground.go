package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tributary.dev/deploy/mesh"
)

// ground is what a scenario needs a mesh of real parts to stand on, beyond what `make services` gives.
type ground struct {
	// own is a Kafka and a PostgreSQL that may be killed.
	own bool
	// replicas of each service; 0: one.
	replicas int
	// wires stand between each process and what it stands on. They need own.
	wires bool
}

// ownParts are a Kafka and a PostgreSQL that the scenarios of a run harm one after the other. They are started
// when one of them first needs them.
type ownParts struct {
	folder string // a temporary one
	parts  *mesh.Parts
}

// doors that a mesh of two replicas of each service needs.
const doors = 10

// running gives them, whatever was done to them before.
func (o *ownParts) running(ctx context.Context) (*mesh.Parts, error) {
	if o.parts == nil {
		var err error
		if o.folder == "" {
			if o.folder, err = os.MkdirTemp("", "tributary-parts-"); err != nil {
				return nil, err
			}
		}
		if err := os.Chmod(o.folder, 0o755); err != nil { // the user postgres has to enter it
			return nil, err
		}
		o.parts, err = mesh.OwnParts(ctx, o.folder, doors)
		return o.parts, err
	}
	return o.parts, errors.Join(o.parts.Database.Start(ctx), o.parts.Broker.Start(ctx))
}

func (o *ownParts) close(ctx context.Context) error {
	var errs []error
	if o.parts != nil {
		errs = append(errs, o.parts.Close(ctx))
	}
	if o.folder != "" {
		errs = append(errs, os.RemoveAll(o.folder))
	}
	return errors.Join(errs...)
}

// config of the mesh that a scenario runs on.
func (s scenario) config(ctx context.Context, o options) (mesh.Config, error) {
	cfg := mesh.Config{Bin: o.bin, Data: o.data, Real: o.parts == real, Untraced: true, Settings: s.settings}
	if !cfg.Real {
		return cfg, nil
	}
	cfg.Replicas, cfg.Wires = s.ground.replicas, s.ground.wires
	cfg.Only = []string{"conversation", "privacy", "connect", "slack", "sms"} // the scenarios' channels
	if !s.ground.own {
		return cfg, nil
	}
	var err error
	cfg.Parts, err = o.own.running(ctx)
	return cfg, err
}

// of gives the n-th replica of a service, from 1; where one process does it all, that.
func (r *run) of(service string, n int) *mesh.Process {
	all := r.Of(service)
	return all[min(n, len(all))-1]
}

// full tells whether the scenario is run in more than its small size.
func (r *run) full() bool { return r.size > r.small }

// lasting is the small time in the small size, else the full one.
func (r *run) lasting(small, full time.Duration) time.Duration {
	if r.full() {
		return full
	}
	return small
}

// pauseUpTo waits for a random while.
func (r *run) pauseUpTo(ctx context.Context, d time.Duration) error {
	return pause(ctx, time.Duration(r.rand.Int64N(int64(d))))
}

// everything is all webhooks in the order that load sends them.
func (r *run) everything() []uint32 { return shuffled(r.ledger.size(), 8, r.seed, 0) }

// throughout delivers webhooks, over a while at least, and harms the mesh meanwhile. Where the harm takes
// longer, webhooks that were accepted are sent again until it is done.
func (r *run) throughout(ctx context.Context, order []uint32, least time.Duration, harm func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := harm(ctx)
		if err != nil {
			cancel()
		}
		done <- err
	}()
	r.sender.lasting = least
	err := r.sender.deliverAll(ctx, order)
	r.sender.lasting = time.Second
	for at := 0; err == nil && len(done) == 0; at = (at + repeated) % len(order) {
		err = r.sender.deliverAll(ctx, order[at:min(at+repeated, len(order))])
	}
	if harmed := <-done; harmed != nil {
		return fmt.Errorf("harm: %w", harmed)
	}
	return err
}

// repeated is how many webhooks a second are sent again.
const repeated = 50

// refused is how many requests of providers were not answered 2xx so far.
func (r *run) refused() int64 { return r.sender.unavailable.Load() + r.sender.failed.Load() }

// cameHome waits until no spool holds anything, and says how much was spooled since the processes were started.
// It goes by what the spools hold: what is published again is counted again.
func (r *run) cameHome(ctx context.Context) (spooled float64, err error) {
	err = mesh.Eventually(ctx, r.lasting(time.Minute, 5*time.Minute), func() error {
		lag, err := r.Metric(ctx, "tributary_spool_lag_seconds")
		if err == nil && lag > 0 {
			err = fmt.Errorf("the spools hold events since %.0f s", lag)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return r.Metric(ctx, "tributary_events_spooled_total")
}

// nobodyDied wants that no event was set aside and none became a dead letter, since the processes were started.
func (r *run) nobodyDied(ctx context.Context) error {
	for _, name := range []string{"tributary_dead_letters_total", "tributary_events_set_aside_total"} {
		n, err := r.Metric(ctx, name)
		if err != nil {
			return err
		}
		if n > 0 {
			r.broken("%s is %.0f", name, n)
		}
	}
	return nil
}
