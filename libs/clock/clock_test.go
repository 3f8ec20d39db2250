package clock

import (
	"testing"
	"time"
)

// TestObserve moves the registry's and a service's clock by hand.
func TestObserve(t *testing.T) {
	registry := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, own := range []time.Duration{0, time.Hour, -time.Hour} {
		local := registry.Add(own)
		c := &Clock{Local: func() time.Time { return local }}
		pass := func(d time.Duration) { registry, local = registry.Add(d), local.Add(d) }
		// answer takes there to the moment that the registry reads its time, and back from it.
		answer := func(there, back time.Duration) {
			sent := c.Sent()
			pass(there)
			read := registry
			pass(back)
			c.Observe(sent, read)
		}
		off := func() time.Duration { return c.Now().Sub(registry) }

		if off() != own {
			t.Errorf("before the first answer it is off by %s, not its own %s", off(), own)
		}
		answer(40*time.Millisecond, 60*time.Millisecond)
		if off().Abs() > 100*time.Millisecond {
			t.Errorf("after an answer of 100 ms it is off by %s", off())
		}
		answer(time.Millisecond, time.Millisecond)
		if off().Abs() > 2*time.Millisecond {
			t.Errorf("after one of 2 ms it is off by %s", off())
		}
		before := c.Now()
		answer(0, 0)
		if c.Now().Before(before.Add(-2 * time.Millisecond)) {
			t.Error("it went back by more than it can have been off")
		}
		// What comes later has the later time, however slow the answers are.
		for _, d := range []time.Duration{0, 300 * time.Millisecond, time.Second, time.Millisecond, 2 * time.Second} {
			before := c.Now()
			answer(d, 0)
			answer(0, d)
			if took := c.Now().Sub(before); took != 2*d {
				t.Errorf("two answers of %s moved it on by %s", d, took)
			}
		}
	}
}
