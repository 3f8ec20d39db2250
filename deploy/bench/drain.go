package main

import (
	"context"
	"time"
)

// How the conversation service drains: as many connections as its pool has, and as many events to a
// transaction as bus hands it.
const (
	drainConnections = 10
	drainBatch       = 2000
)

// drain compares the way from the topic to committed rows with pgx's CopyFrom of the same rows into the same
// tables. In a round the service drains the topic from its beginning on a fresh database; its window begins
// once a tenth of the events is in: nearly all of the people are known then, as they are for most of them.
func drain(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.filled(ctx)
	if err != nil {
		return nil, err
	}
	drained, err := f.drained(ctx)
	if err != nil {
		return nil, err
	}
	// What CopyFrom does in a window, and twice as much.
	part := min(1, 60_000*e.window.Seconds()/float64(f.events))
	rows, err := readBack(ctx, drained, part)
	if err != nil {
		return nil, err
	}
	r, err := e.compare(ctx, "drain", func(ctx context.Context) (float64, error) {
		began := time.Now()
		if err := f.serve(ctx, "round", f.database("empty")); err != nil {
			return 0, err
		}
		rate, err := f.rate(ctx, began, f.events/10, e.window, "drain")
		if err != nil {
			return 0, err
		}
		return rate, f.StopProcess(ctx, "conversation")
	}, func(ctx context.Context) (float64, error) {
		if err := f.make(ctx, "round", f.database("empty")); err != nil {
			return 0, err
		}
		return copyIn(ctx, f.database("round"), rows, int(float64(f.events)*part), drainBatch, drainConnections, e.window)
	})
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: "drain_ratio", Value: r.ratio, Unit: "ratio"}.atLeast(.4),
		{Name: "drain_per_second", Value: r.ours, Unit: "events/s"},
		{Name: "copy_per_second", Value: r.bare, Unit: "events/s"},
	}, f.drop(ctx, "round")
}

// drained gives a database into which all of the topic was drained; the conversation service does not run then.
func (f *filled) drained(ctx context.Context) (string, error) {
	url := f.database("drained")
	if f.shared.drained {
		return url, f.StopProcess(ctx, "conversation")
	}
	began := time.Now()
	if err := f.serve(ctx, "drained", f.database("empty")); err != nil {
		return "", err
	}
	if err := f.settledOf(ctx, "conversation", 20*time.Minute); err != nil {
		return "", err
	}
	f.say("   all of them are drained, %.0f s", time.Since(began).Seconds())
	f.shared.drained = true
	return url, f.StopProcess(ctx, "conversation")
}
