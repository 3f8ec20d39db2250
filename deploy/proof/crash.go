package main

import (
	"context"
	"errors"
	"time"

	"tributary.dev/deploy/mesh"
)

// crash kills processes at random moments while webhooks arrive, also while they start and while they catch
// up, and once more all of them when everything is answered and some of it not yet handled. With real parts
// it kills each service, the broker and the database, singly and together.
func crash() scenario {
	return scenario{
		name: "crash", harm: "kill -9 at random moments, also while it starts and catches up",
		parts: []string{embedded, real}, small: 1000, ground: ground{own: true},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			kills, each := min(max(r.size/1000, 3), 40), time.Second
			if r.options.parts == real {
				each *= 5
			}
			order, k := r.everything(), killer{r: r, victims: r.victims()}
			for kill := range kills { // each under a part of the load, which lasts until all run again
				part := order[len(order)*kill/kills : len(order)*(kill+1)/kills]
				if err := r.throughout(ctx, part, each, func(ctx context.Context) error {
					if err := r.pauseUpTo(ctx, each/2); err != nil {
						return err
					}
					return k.kill(ctx, k.some()...)
				}); err != nil {
					return err
				}
			}
			err := k.kill(ctx, k.victims...)
			r.say("%s: killed %d times under load and once after it, %d processes in all, and %d before they were ready", r.name, kills, k.killed, k.unready)
			return err
		},
	}
}

// victims are all processes, and what they stand on first.
func (r *run) victims() (all []mesh.Part) {
	if r.options.parts == real {
		all = append(all, r.own.parts.Database, r.own.parts.Broker)
	}
	for _, p := range r.Processes() {
		all = append(all, p)
	}
	return all
}

// killer kills and starts again.
type killer struct {
	r       *run
	victims []mesh.Part
	turn    int
	// killed processes, and those of them that were killed before they were ready.
	killed, unready int
}

// some victims: mostly one after the other, sometimes several, sometimes all.
func (k *killer) some() []mesh.Part {
	dice := k.r.rand.IntN(10)
	if dice == 0 {
		return k.victims
	}
	chosen := map[int]bool{k.turn % len(k.victims): true}
	for ; dice <= 3 && len(chosen) < min(dice+1, len(k.victims)); dice++ {
		chosen[k.r.rand.IntN(len(k.victims))] = true
	}
	k.turn++
	var some []mesh.Part
	for i, v := range k.victims {
		if chosen[i] {
			some = append(some, v)
		}
	}
	return some
}

// kill kills parts, one time in three a process of them again before it is ready, and starts them.
func (k *killer) kill(ctx context.Context, parts ...mesh.Part) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.Kill())
		k.killed++
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if k.r.options.parts == real { // the others meet its absence
		if err := k.r.pauseUpTo(ctx, time.Second); err != nil {
			return err
		}
	}
	if p, ok := parts[len(parts)-1].(*mesh.Process); ok && k.r.rand.IntN(3) == 0 {
		starting, stop := context.WithTimeout(ctx, time.Duration(10+k.r.rand.IntN(200))*time.Millisecond)
		if p.Start(starting) != nil {
			k.unready++
		}
		stop()
		if err := p.Kill(); err != nil {
			return err
		}
	}
	for _, p := range parts[:k.foundation(parts)] {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return k.r.Start(ctx) // all at once: they need each other
}

// foundation is how many of the parts are no processes of the mesh: they are the first.
func (k *killer) foundation(parts []mesh.Part) int {
	for i, p := range parts {
		if _, ok := p.(*mesh.Process); ok {
			return i
		}
	}
	return len(parts)
}
