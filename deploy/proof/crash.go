package main

import (
	"context"
	"time"
)

// crash kills the mesh at random moments while webhooks arrive, also while it starts and while it catches
// up, and once more when everything is answered and some of it not yet handled.
func crash() scenario {
	return scenario{
		name: "crash", harm: "kill -9 at random moments, also while it starts and catches up",
		parts: []string{embedded}, small: 1000,
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			kills := min(max(r.size/1000, 3), 40)
			begun := 0
			err := r.under(ctx, func(ctx context.Context) error {
				for kill := range kills {
					// Spread over the load, each some time after the last.
					if err := r.awaitAccepted(ctx, r.ledger.size()*kill/kills); err != nil {
						return err
					}
					if err := r.killSometime(ctx, &begun); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			r.Kill()
			r.say("crash: killed %d times, and %d times before it was ready", kills+1, begun)
			return r.Start(ctx)
		},
	}
}

// killSometime kills the mesh within the next moments, one time in three again before it is ready, and
// starts it.
func (r *run) killSometime(ctx context.Context, begun *int) error {
	if err := pause(ctx, time.Duration(r.rand.IntN(400))*time.Millisecond); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // what was killed is started again
	r.Kill()
	if r.rand.IntN(3) == 0 {
		starting, stop := context.WithTimeout(ctx, time.Duration(10+r.rand.IntN(200))*time.Millisecond)
		if r.Start(starting) != nil {
			*begun++
		}
		stop()
		r.Kill()
	}
	return r.Start(ctx)
}
