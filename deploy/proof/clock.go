package main

import (
	"context"
	"errors"
	"time"
)

// clock starts each service with a clock that is an hour ahead, then an hour behind, and then the key registry,
// whose clock is the mesh's. Of a registry that is wrong nothing is lost or doubled, signatures hold by each
// machine's own clock, and what the provider gave a time keeps its order. Text messages, which have none but the
// mesh's, are out of order where the registry's clock is set back, and so none comes meanwhile.
func clock() scenario {
	return scenario{
		name: "clock", harm: "each service's clock an hour ahead, then an hour behind; the key registry's too, by which the mesh goes",
		parts: []string{real}, small: 1000, ground: ground{replicas: 1},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			hush, err := r.chatter(ctx)
			if err != nil {
				return err
			}
			some, timed := r.apart()
			err = r.throughout(ctx, some, r.lasting(15*time.Second, time.Minute), func(ctx context.Context) error {
				return r.setClocks(ctx, "slack", "sms", "conversation", "connect")
			})
			if err == nil {
				err = r.throughout(ctx, timed, r.lasting(5*time.Second, 20*time.Second), func(ctx context.Context) error {
					return r.setClocks(ctx, registry)
				})
			}
			if err := errors.Join(err, hush()); err != nil {
				return err
			}
			if err := r.ended(ctx); err != nil {
				return err
			}
			return r.nobodyDied(ctx)
		},
	}
}

// registry is the service that has it.
const registry = "privacy"

// apart gives all webhooks but a part of those whose events have the provider's time, and that part.
func (r *run) apart() (some, timed []uint32) {
	for _, e := range r.everything() {
		c := int(e) / perConversation
		if int(e) < r.traffic.events() && r.traffic.medium(c) != text && c%3 == 0 {
			timed = append(timed, e)
		} else {
			some = append(some, e)
		}
	}
	return some, timed
}

// setClocks starts services anew with wrong clocks, each for a while, and then with its right one.
func (r *run) setClocks(ctx context.Context, services ...string) error {
	for _, service := range services {
		for _, off := range []string{"1h", "-1h", ""} {
			if err := r.restartWith(ctx, service, "TRIBUTARY_CLOCK_OFFSET", off); err != nil {
				return err
			}
			if err := r.pauseUpTo(ctx, r.lasting(500*time.Millisecond, 5*time.Second)); err != nil {
				return err
			}
		}
	}
	return nil
}
