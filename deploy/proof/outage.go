package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
)

// outage takes away what the mesh stands on for a minute: webhooks are taken all the same, and nothing is
// lost of them. When the spool's disk is full they are refused, and that is told.
func outage() scenario {
	return scenario{
		name: "outage", harm: "registry, broker, conversation's database away for a minute; then with the spool's disk full",
		parts: []string{real}, small: 1000, ground: ground{own: true, wires: true},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			aways, events := r.aways(), shuffled(r.ledger.size(), r.ledger.size()+1, r.seed, 0) // each once
			kept := len(events) / 3                                                             // for full spools
			least := time.Duration(len(aways)) * (r.away() + 4*time.Second)
			err := r.throughout(ctx, events[kept:], least, func(ctx context.Context) error {
				for _, a := range aways {
					if err := r.takeAway(ctx, a); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := r.nobodyDied(ctx); err != nil {
				return err
			}
			return r.fillSpools(ctx, events[:kept])
		},
	}
}

// away is something that is taken away.
type away struct {
	what       string
	take, give func(ctx context.Context) error
	// spools tells that webhooks then go to the spool.
	spools bool
}

func (r *run) aways() []away {
	registry, database := r.of("privacy", 1), r.of("conversation", 1).Database
	killed := func(p mesh.Part) func(context.Context) error {
		return func(context.Context) error { return p.Kill() }
	}
	return []away{
		{"the key registry", killed(registry), registry.Start, true},
		{"the broker", killed(r.own.parts.Broker), r.own.parts.Broker.Start, true},
		{"conversation's database", func(context.Context) error { database.Cut(); return nil },
			func(context.Context) error { database.Mend(); return nil }, false},
	}
}

// away is for how long things are.
func (r *run) away() time.Duration { return r.lasting(3*time.Second, time.Minute) }

// takeAway takes something away for a while, and wants every webhook to be answered 2xx meanwhile, and home
// afterwards.
func (r *run) takeAway(ctx context.Context, a away) error {
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	spooled, err := r.Metric(ctx, "tributary_events_spooled_total")
	if err != nil {
		return err
	}
	refused, accepted := r.refused(), r.sender.taken.Load()
	if err := a.take(ctx); err != nil {
		return err
	}
	err = pause(ctx, r.away())
	refused, accepted = r.refused()-refused, r.sender.taken.Load()-accepted
	if err := errors.Join(err, a.give(ctx)); err != nil {
		return err
	}
	after, err := r.cameHome(ctx)
	if err != nil {
		r.broken("%s came back: %v", a.what, err)
	}
	r.say("outage: without %s %d webhooks were accepted, %.0f events spooled", a.what, accepted, after-spooled)
	if refused > 0 {
		r.broken("without %s %d webhooks were refused", a.what, refused)
	}
	if accepted == 0 || a.spools != (after > spooled) {
		return fmt.Errorf("without %s %d webhooks were accepted and %.0f events spooled: that shows nothing", a.what, accepted, after-spooled)
	}
	return nil
}
