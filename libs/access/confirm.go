package access

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// confirmer bounds how often, and by how many at a time, the broker is asked whether the Table is current.
type confirmer struct {
	ask func(ctx context.Context, since time.Time) error
	// turn is held by the one who asks; last and its answer belong to the holder.
	turn    chan struct{}
	last    time.Time
	answer  error
	waiting atomic.Int64
}

const (
	confirmEvery   = 250 * time.Millisecond
	confirmTimeout = 2 * time.Second
	//bound:limit requests that wait to know whether the list of keys is current | {} | 503
	maxWaiting = 1024
)

var errTooManyWaiting = errors.New("access: too many wait for the list of keys")

// since returns nil once the Table holds everything that was published before t. Those who come while a
// question is under way share the next one.
func (c *confirmer) since(ctx context.Context, t time.Time) error {
	if c.waiting.Add(1) > maxWaiting {
		c.waiting.Add(-1)
		return errTooManyWaiting
	}
	defer c.waiting.Add(-1)
	//bound:timeout waiting to know whether the list of keys is current | {} | 503
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.last.After(t) {
		return c.answer
	}
	//bound:retry asking whether the list of keys is current | {confirmEvery} after the last time | those who come meanwhile share the answer
	pause := time.NewTimer(time.Until(c.last.Add(confirmEvery)))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	// The answer is everybody's who waits: it does not end because this caller goes.
	//bound:timeout waiting to know whether the list of keys is current | {} | 503
	asking, cancelAsking := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
	defer cancelAsking()
	c.last = time.Now()
	c.answer = c.ask(asking, c.last)
	return c.answer
}
