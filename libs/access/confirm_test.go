package access

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFloodOfWrongKeysSharesQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		c := &confirmer{turn: make(chan struct{}, 1), ask: func(_ context.Context, since time.Time) error {
			require.False(t, since.After(time.Now()))
			asked.Add(1)
			time.Sleep(time.Millisecond)
			return nil
		}}
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				require.NoError(t, c.since(t.Context(), time.Now()))
			})
		}
		all.Wait()
		require.LessOrEqual(t, asked.Load(), int64(6), "four questions a second, whoever asks")
		require.GreaterOrEqual(t, asked.Load(), int64(4))
	})
}

func TestAQuestionOnlyAnswersThoseWhoCameBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		c := &confirmer{turn: make(chan struct{}, 1), ask: func(_ context.Context, since time.Time) error {
			last = since
			return nil
		}}
		for range 5 {
			came := time.Now()
			require.NoError(t, c.since(t.Context(), came))
			require.False(t, last.Before(came))
			time.Sleep(time.Microsecond)
		}
	})
}

func TestABrokerThatIsAwayConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		c := &confirmer{turn: make(chan struct{}, 1), ask: func(context.Context, time.Time) error { return away }}
		require.ErrorIs(t, c.since(t.Context(), time.Now()), away)

		c.ask = func(ctx context.Context, _ time.Time) error { <-ctx.Done(); return ctx.Err() }
		var all sync.WaitGroup
		var refused atomic.Int64
		began := time.Now()
		for range 2 * maxWaiting {
			all.Go(func() {
				if err := c.since(t.Context(), time.Now()); errors.Is(err, errTooManyWaiting) {
					refused.Add(1)
				} else {
					require.Error(t, err)
				}
			})
		}
		all.Wait()
		require.Positive(t, refused.Load(), "those who wait are bounded")
		require.LessOrEqual(t, time.Since(began), 2*confirmTimeout)
	})
}
