package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// profiled is do with a CPU profile taken of the services for a window, where profiles are wanted. What is measured then is the mesh and its profiling.
func (e *env) profiled(ctx context.Context, w *world, what string, do func() error, services ...string) func() error {
	if e.profiles == "" {
		return do
	}
	return func() error {
		var taking sync.WaitGroup
		var processes []*mesh.Process
		for _, p := range w.Processes() {
			if slices.Contains(services, p.Name) {
				processes = append(processes, p)
			}
		}
		errs := make([]error, len(processes))
		for i, p := range processes {
			taking.Go(func() { errs[i] = e.profile(ctx, p, what) })
		}
		err := do()
		taking.Wait()
		return errors.Join(append(errs, err)...)
	}
}

func (e *env) profile(ctx context.Context, p *mesh.Process, what string) error {
	ctx, cancel := context.WithTimeout(ctx, e.window+30*time.Second)
	defer cancel()
	seconds := max(1, int(e.window.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%sprofile?seconds=%d", p.Profiles, seconds), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile of %s: %s", p.Name, resp.Status)
	}
	if err := os.MkdirAll(e.profiles, 0o750); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(e.profiles, what+"-"+p.Name+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}
