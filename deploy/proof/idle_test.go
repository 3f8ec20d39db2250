package main

import (
	"testing"
	"time"
)

// idleBytes is what one process that does everything may hold while it has nothing to do.
const idleBytes = 120 << 20

// TestIdle weighs the mesh when it has nothing to do: new, and after a day's work of a small shop.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the mesh to become idle")
	}
	w := newWorld(t, nil)
	weigh := func(when string) {
		t.Helper()
		time.Sleep(10 * time.Second) // idleness is what is measured
		resident, err := w.Resident()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MiB resident", when, resident>>20)
		if resident > idleBytes {
			t.Errorf("%s: %d MiB resident, more than %d", when, resident>>20, idleBytes>>20)
		}
	}
	weigh("idle from the start")
	r := newRun(w, options{size: 2000, seed: 1, say: t.Logf}, scenario{name: "idle"}, time.Now())
	stop := r.watch(t.Context())
	defer stop()
	if err := r.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d, err := r.compared(t.Context()); err != nil || !d.none() {
		t.Fatalf("%+v: %v", d, err)
	}
	weigh("idle after 2,000 messages")
}
