// Package clock is the mesh's one clock. Every answer of the key registry carries the registry's time;
// a service runs on its own monotonic clock, set by the last answer. Before the first answer it runs on
// its own wall clock.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock tells the mesh's time. The zero value is ready and runs on the local clock. Safe for
// concurrent use.
type Clock struct {
	// Local stands in for time.Now in tests; it must carry a monotonic reading or not, consistently.
	Local func() time.Time

	set atomic.Pointer[setting]
}

type setting struct {
	local time.Time // with its monotonic reading
	mesh  time.Time
}

// Now is the mesh's time, in UTC.
func (c *Clock) Now() time.Time {
	now := c.local()
	if s := c.set.Load(); s != nil {
		return s.mesh.Add(now.Sub(s.local)).UTC()
	}
	return now.UTC()
}

// NowMicros is Now in microseconds since 1970.
func (c *Clock) NowMicros() int64 { return c.Now().UnixMicro() }

// Observe sets the clock by an answer of the registry: sent is Sent()'s value from before the call. The
// answer's time is taken to be half-way between sending and receiving.
func (c *Clock) Observe(sent time.Time, registry time.Time) {
	received := c.local()
	half := received.Sub(sent) / 2
	if half < 0 {
		half = 0
	}
	c.set.Store(&setting{local: received, mesh: registry.Add(half)})
}

// Sent is the local time to hand to Observe.
func (c *Clock) Sent() time.Time { return c.local() }

func (c *Clock) local() time.Time {
	if c.Local != nil {
		return c.Local()
	}
	return time.Now()
}
