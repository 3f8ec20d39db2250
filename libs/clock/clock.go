// Package clock is the mesh's one clock. Every answer of the key registry carries the registry's time;
// a service runs on its own monotonic clock, and corrects it by what an answer proves: the registry's time was
// read between sending and receiving. Before the first answer it runs on its own wall clock.
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

// at is the mesh's time at a local one.
func (s *setting) at(local time.Time) time.Time {
	if s == nil {
		return local.UTC()
	}
	return s.mesh.Add(local.Sub(s.local)).UTC()
}

// Now is the mesh's time, in UTC.
func (c *Clock) Now() time.Time { return c.set.Load().at(c.local()) }

// NowMicros is Now in microseconds since 1970.
func (c *Clock) NowMicros() int64 { return c.Now().UnixMicro() }

// Observe corrects the clock by an answer of the registry: sent is Sent()'s value from before the call. A
// clock that lies between the answer's time and that time plus what the call took is as right as the answer
// can tell, and goes on: set by each slow answer anew it would go back and forth, and what came first would
// get the later time. Else it moves by the least that makes it so. From the first answer on the local wall
// clock may be set as it likes.
func (c *Clock) Observe(sent time.Time, registry time.Time) {
	set, received := c.set.Load(), c.local()
	now, latest := set.at(received), registry.Add(max(received.Sub(sent), 0))
	switch {
	case now.Before(registry):
		now = registry
	case now.After(latest):
		now = latest
	case set != nil:
		return
	}
	c.set.CompareAndSwap(set, &setting{local: received, mesh: now}) // else another answer has just corrected it
}

// Sent is the local time to hand to Observe, and the registry's own.
func (c *Clock) Sent() time.Time { return c.local() }

func (c *Clock) local() time.Time {
	if c.Local != nil {
		return c.Local()
	}
	return time.Now()
}
