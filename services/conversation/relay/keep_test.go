package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Who writes to the outbox wakes the relay of its own process alone: another, which has the lease, finds the first
// row at its next poll, and what follows from it soon.
func TestWhatAnotherProcessWritesIsFoundSoonOnceOneWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := &Relay{poll: time.Second}
		const rows = 10
		written, began, looks := 1, time.Now(), 0
		var last time.Duration
		go r.keep(ctx, nil, 0, r.poll, func(context.Context, bool) (found, again bool, err error) {
			looks++
			if looks > 1 && written <= rows { // each is written when the one before was found
				written++
				last = time.Since(began)
				return true, false, nil
			}
			return false, false, nil
		})
		time.Sleep(time.Minute)
		stop()
		synctest.Wait()
		if last < time.Second || last > 2*time.Second {
			t.Errorf("%d rows are found within %s", rows, last)
		}
		if most := 60 + rows + soonLooks; looks > most {
			t.Errorf("it looks %d times in a minute, and only %d are due", looks, most)
		}
	})
}
