package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
)

// wholeWay is how many events the whole mesh carries from webhook to live stream for a second of processor
// time of all its processes; brokers and database, which it shares with others, are not among them.
func wholeWay(ctx context.Context, e *env) (figures []figure, err error) {
	w, err := e.newWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	address, err := w.address("slack")
	if err != nil {
		return nil, err
	}
	maker := newWebhooks(0, knownPeople)
	for maker.n < 2*warmPeople {
		if _, err := hammer(ctx, address, 64, 200*time.Millisecond, maker.next); err != nil {
			return nil, err
		}
	}
	if err := w.done(ctx); err != nil {
		return nil, err
	}
	before, err := w.used()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var l load
	run := func() error {
		if l, err = hammer(ctx, address, 64, e.window, maker.next); err != nil {
			return err
		}
		return w.done(ctx)
	}
	if err := e.profiled(ctx, w, "whole_way", run, "slack", "conversation", "privacy", "connect")(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := w.used()
	if err != nil {
		return nil, err
	}
	if l.refused > 0 || l.accepted == 0 {
		return nil, fmt.Errorf("%d webhooks refused, %d accepted", l.refused, l.accepted)
	}
	var all time.Duration
	for name, cpu := range after {
		all += cpu - before[name]
		e.say("   %s: %.1f s of processor time", name, (cpu - before[name]).Seconds())
	}
	e.say("   %d events: taken in within %.1f s, all told of within %.1f s", l.accepted, l.took.Seconds(), took.Seconds())
	return []figure{{Name: "events_per_cpu_second", Value: float64(l.accepted) / all.Seconds(), Unit: "events/s"}}, nil
}

// done waits until nothing is on its way any more, from the spool to the outbox.
func (w *world) done(ctx context.Context) error {
	if err := w.settled(ctx, 5*time.Minute); err != nil {
		return err
	}
	return mesh.Eventually(ctx, 5*time.Minute, func() error {
		for _, metric := range []string{"tributary_spool_lag_seconds", "tributary_consumer_lag_records", "tributary_outbox_age_seconds"} {
			if value, err := w.Metric(ctx, metric); err != nil || value > 0 {
				return errors.Join(err, fmt.Errorf("%s is %g", metric, value))
			}
		}
		return nil
	})
}

// used is the processor time of each process.
func (w *world) used() (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, p := range w.Processes() {
		cpu, err := p.CPU()
		if err != nil {
			return nil, err
		}
		used[p.Name] = cpu
	}
	return used, nil
}
