package main

import (
	"context"
	"errors"
	"time"
)

// clock starts each service with a clock that is an hour ahead, and then an hour behind.
func clock() scenario {
	return scenario{
		name: "clock", harm: "one service's clock an hour ahead, then behind; the key registry's too, by which the mesh goes",
		parts: []string{real}, small: 1000, ground: ground{replicas: 1},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			hush, err := r.chatter(ctx)
			if err != nil {
				return err
			}
			err = r.throughout(ctx, r.everything(), r.lasting(15*time.Second, time.Minute), func(ctx context.Context) error {
				for _, service := range []string{"slack", "sms", "conversation", "connect"} {
					for _, off := range []string{"1h", "-1h", ""} {
						if err := r.restartWith(ctx, service, "TRIBUTARY_CLOCK_OFFSET", off); err != nil {
							return err
						}
					}
				}
				return nil
			})
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
