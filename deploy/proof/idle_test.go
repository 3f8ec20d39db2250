package proof

import (
	"context"
	"sync/atomic"
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arrivals, model := threadedTraffic(2000, 50)
	var accepted atomic.Int64
	if err := w.load(ctx, arrivals, 16, &accepted); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, func() error { return w.holds(ctx, model) })
	weigh("idle after 2,000 messages")
}
