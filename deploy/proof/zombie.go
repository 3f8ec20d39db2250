package main

import (
	"context"
	"errors"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/wire"
)

// sessionOver is longer than what brokers give a member to be heard of (15 s), and the lease of a relay.
const sessionOver = 17 * time.Second

// zombie suspends a consumer and a sender amid their work until others have taken it over, and lets them go
// on. With real parts that is one of two replicas, which hears late that it is no member any more, and does meanwhile
// what the others have done; one process is suspended as it is. What is late may be sent here, so that it is the
// refused commit alone that keeps a zombie from it.
func zombie() scenario {
	return scenario{
		name: "zombie", harm: "SIGSTOP of a consumer and of a sender for longer than their session, then SIGCONT",
		parts: []string{embedded, real}, small: 1000, ground: ground{own: true, replicas: 2, wires: true},
		settings: map[string]string{"TRIBUTARY_SEND_LATE": "1m", "TRIBUTARY_SEND_LONGEST_CALL": "2s", "TRIBUTARY_CONVERSATION_POLL": "100ms"},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			victims := [][]*mesh.Process{{r.of("conversation", 1), r.of("slack", 1)}}
			if r.full() {
				victims = append(victims, []*mesh.Process{r.of("conversation", 2)}, []*mesh.Process{r.of("slack", 2)},
					[]*mesh.Process{r.of("sms", 1), r.of("privacy", 1)})
			}
			// Each call takes a while, so that some are under way when their sender stops.
			slowly := func(int, string) standin.Failure { return standin.Failure{Delay: 300 * time.Millisecond} }
			r.slack.Fail(slowly)
			r.twilio.Fail(slowly)
			hush, err := r.chatter(ctx)
			if err != nil {
				return err
			}
			least := time.Duration(len(victims)) * (sessionOver + unheard + 2*time.Second)
			err = r.throughout(ctx, r.everything(), least, func(ctx context.Context) error {
				for _, all := range victims {
					if err := r.pauseUpTo(ctx, 2*time.Second); err != nil {
						return err
					}
					if err := suspended(ctx, all, sessionOver); err != nil {
						return err
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

// unheard is for how long a zombie does not hear that it is one.
const unheard = 3 * time.Second

// suspended stops processes where they stand, for a while.
func suspended(ctx context.Context, all []*mesh.Process, d time.Duration) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Pause())
	}
	errs = append(errs, pause(ctx, d))
	for _, p := range all {
		if p.Broker != nil {
			p.Broker.DelayAnswers(wire.Heartbeat, unheard)
			defer p.Broker.Mend()
		}
		errs = append(errs, p.Resume())
	}
	return errors.Join(append(errs, pause(ctx, unheard))...)
}
