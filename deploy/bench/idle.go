package main

import (
	"context"
	"errors"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel"
)

// idle is what processes use that have nothing to do: each service's, and the one that is all of them.
func idle(ctx context.Context, e *env) (figures []figure, err error) {
	w, err := e.newWorld(ctx, append(channel.Names(), "conversation", "privacy", "connect")...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	alone, err := mesh.New(mesh.Config{Bin: e.bin, Data: e.dir, Untraced: true, Profiled: e.profiles != ""})
	if err != nil {
		return nil, err
	}
	if err := alone.Start(ctx); err != nil {
		return nil, errors.Join(err, alone.Close(ctx))
	}
	defer func() { err = errors.Join(err, alone.Close(context.WithoutCancel(ctx))) }()
	if err := wait(ctx, e.window/2); err != nil { // what follows from the start has been done
		return nil, err
	}
	processes := append(w.Processes(), alone.Processes()...)
	used := make([]time.Duration, len(processes))
	for i, p := range processes {
		if used[i], err = p.CPU(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	sleep := func() error { return wait(ctx, 3*e.window) } // a long time: a forced garbage collection comes every two minutes
	if err := e.profiled(ctx, &world{Mesh: alone}, "idle", sleep, "tributary")(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	for i, p := range processes {
		now, err := p.CPU()
		if err != nil {
			return nil, err
		}
		resident, err := p.Resident()
		if err != nil {
			return nil, err
		}
		rss := figure{Name: "idle_rss_mb_" + p.Name, Value: float64(resident) / 1e6, Unit: "MB"}
		cpu := figure{Name: "idle_cpu_percent_" + p.Name, Value: 100 * (now - used[i]).Seconds() / took.Seconds(), Unit: "%"}
		if p.Name == "tributary" {
			rss.Name, cpu.Name = "idle_rss_mb_standalone", "idle_cpu_percent_standalone"
			rss, cpu = rss.atMost(120), cpu.atMost(1)
		}
		figures = append(figures, rss, cpu)
	}
	return figures, nil
}

// wait for a while.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
