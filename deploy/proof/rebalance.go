package main

import (
	"context"
	"errors"
	"time"
)

// rebalance has a second replica of each consumer come and go, in order and by force, amid what has just come.
func rebalance() scenario {
	return scenario{
		name: "rebalance", harm: "members of the consumer groups come and go every few seconds, one in three by kill -9",
		parts: []string{real}, small: 1000, settings: impatient(), ground: ground{replicas: 2},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			hush, err := r.chatter(ctx)
			if err != nil {
				return err
			}
			r.sender.lasting = r.lasting(15*time.Second, 2*time.Minute)
			r.sender.wave = connections
			// One in three is killed: at first conversation's, and each in the end.
			consumers := []string{"conversation", "slack", "sms", "conversation", "privacy", "connect", "conversation"}
			moves := 0
			err = r.under(ctx, func(ctx context.Context) error {
				for ; ; moves++ {
					p := r.of(consumers[moves%len(consumers)], 2)
					if err := r.pauseUpTo(ctx, r.lasting(time.Second, 4*time.Second)); err != nil {
						return err
					}
					if err := r.awaitTaken(ctx, connections/2); err != nil {
						return err
					}
					moving := context.WithoutCancel(ctx) // who has gone comes back
					if moves%3 == 0 {
						err = p.Kill()
					} else {
						stopping, cancel := context.WithTimeout(moving, time.Minute)
						err = p.Stop(stopping)
						cancel()
					}
					if err := errors.Join(err, p.Start(moving)); err != nil {
						return err
					}
				}
			})
			r.say("rebalance: %d members left and came back", moves)
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
