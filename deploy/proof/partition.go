package main

import (
	"context"
	"errors"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/wire"
)

// partition has the network fail between each service and what it stands on, one way after the other and
// several at once.
func partition() scenario {
	return scenario{
		name: "partition", harm: "wires to broker, database and registry cut, stall, delay and break off half-way; acks get lost",
		parts: []string{real}, small: 1000, settings: impatient(), ground: ground{own: true, wires: true},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			hush, err := r.chatter(ctx)
			if err != nil {
				return err
			}
			r.sender.lasting = r.lasting(12*time.Second, 2*time.Minute)
			err = r.under(ctx, func(ctx context.Context) error {
				defer r.mendAll()
				for {
					if err := r.harmWire(ctx); err != nil {
						return err
					}
				}
			})
			if err := errors.Join(err, hush()); err != nil {
				return err
			}
			if err := r.ended(ctx); err != nil {
				return err
			}
			if _, err := r.cameHome(ctx); err != nil {
				r.broken("%v", err)
			}
			return r.nobodyDied(ctx)
		},
	}
}

// wiresOf a process.
func wiresOf(p *mesh.Process) []*wire.Wire { return []*wire.Wire{p.Broker, p.Database, p.Registry} }

func (r *run) mendAll() {
	for _, p := range r.Processes() {
		for _, w := range wiresOf(p) {
			w.Mend()
		}
	}
}

// harmWire does some harm to a wire, or to all of a kind, and mends it in a moment.
func (r *run) harmWire(ctx context.Context) error {
	all := r.Processes()
	p, kind := all[r.rand.IntN(len(all))], r.rand.IntN(3)
	wires := []*wire.Wire{wiresOf(p)[kind]}
	if r.rand.IntN(6) == 0 { // the broker, database or registry can't be reached by anybody
		wires = nil
		for _, p := range all {
			wires = append(wires, wiresOf(p)[kind])
		}
	}
	harm, some := r.rand.IntN(6), 1+r.rand.IntN(4)
	for _, w := range wires {
		switch harm {
		case 0:
			w.Cut()
		case 1:
			w.Stall()
		case 2:
			w.StallAnswers()
		case 3:
			w.Delay(time.Duration(50+r.rand.IntN(750)) * time.Millisecond)
		case 4:
			w.Break(some)
		default:
			if kind == 0 {
				w.LoseAnswers(wire.Produce, some)
				w.LoseAnswers(wire.OffsetCommit, some)
			} else {
				w.Break(some)
			}
		}
	}
	if err := r.pauseUpTo(ctx, r.lasting(1500*time.Millisecond, 5*time.Second)); err != nil {
		return err
	}
	for _, w := range wires {
		w.Mend()
	}
	return r.pauseUpTo(ctx, 200*time.Millisecond)
}
