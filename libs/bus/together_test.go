package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func of(partition, n int) []Record {
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Partition: partition, Offset: int64(i)}
	}
	return records
}

func TestWhatWaitsIsHandledTogetherAndEachInItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls [][]Record
		var running atomic.Int64
		handle := Together(2, 100, 0, func(_ context.Context, records []Record) error {
			assert.LessOrEqual(t, running.Add(1), int64(2))
			defer running.Add(-1)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, records)
			return nil
		})
		var all sync.WaitGroup
		for partition := range 30 {
			all.Go(func() { assert.NoError(t, handle(t.Context(), of(partition, 10))) })
		}
		all.Wait()
		seen := map[int]int64{}
		for _, c := range calls {
			require.LessOrEqual(t, len(c), 100)
			for _, r := range c {
				require.Equal(t, seen[r.Partition], r.Offset)
				seen[r.Partition]++
			}
		}
		require.Len(t, seen, 30)
		require.LessOrEqual(t, len(calls), 6, "two at first, the other 28 in calls of 10")
	})
}

func TestCallsThatBeginAWhileApartTakeWhatComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, last atomic.Int64
		began := time.Now()
		handle := Together(4, 100, 10*time.Millisecond, func(context.Context, []Record) error {
			calls.Add(1)
			last.Store(int64(time.Since(began)))
			time.Sleep(3 * time.Millisecond)
			return nil
		})
		require.NoError(t, handle(t.Context(), of(0, 1)))
		require.Zero(t, last.Load(), "the first waits for nobody")
		var all sync.WaitGroup
		for partition := range 200 {
			all.Go(func() { assert.NoError(t, handle(t.Context(), of(partition, 1))) })
			time.Sleep(5 * time.Millisecond)
		}
		all.Wait()
		require.InDelta(t, 100, calls.Load(), 5)
		require.LessOrEqual(t, time.Duration(last.Load()), 1020*time.Millisecond)
	})
}

func TestAFaultIsItsOwnBatchesAlone(t *testing.T) {
	for name, fail := range map[string]func() error{
		"of the data": func() error { return DataFault("x", errors.New("bad")) },
		"another":     func() error { return errors.New("store is away") },
		"a panic":     func() error { panic("bad") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				handled := map[int]int{}
				handle := Together(1, 100, 0, func(_ context.Context, records []Record) error {
					time.Sleep(time.Second)
					if slices.ContainsFunc(records, func(r Record) bool { return r.Partition == 3 }) {
						return fail()
					}
					mu.Lock()
					defer mu.Unlock()
					for _, r := range records {
						handled[r.Partition]++
					}
					return nil
				})
				var all sync.WaitGroup
				for partition := range 6 {
					all.Go(func() {
						defer func() {
							if p := recover(); p != nil {
								assert.Equal(t, 3, partition)
							}
						}()
						err := handle(t.Context(), of(partition, 1))
						assert.Equal(t, partition == 3, err != nil, fmt.Sprint(partition, err))
					})
				}
				all.Wait()
				require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1, 4: 1, 5: 1}, handled)
			})
		})
	}
}

func TestAPartitionThatIsTakenAwayHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		handle := Together(1, 100, 0, func(ctx context.Context, records []Record) error {
			if len(records) > 1 {
				close(stuck)
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(time.Second)
			return nil
		})
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for partition := range 3 { // the first holds the place while the others gather
			all.Go(func() {
				ctx := t.Context()
				if partition == 2 {
					ctx = leaving
				}
				if err := handle(ctx, of(partition, 1)); partition != 2 {
					assert.NoError(t, err)
				}
			})
			synctest.Wait()
		}
		<-stuck
		leave()
		all.Wait()
		waiting, stop := context.WithCancel(t.Context())
		all.Go(func() { assert.NoError(t, handle(t.Context(), of(0, 1))) })
		synctest.Wait()
		all.Go(func() { assert.ErrorIs(t, handle(waiting, of(1, 1)), context.Canceled) })
		synctest.Wait()
		stop()
		all.Wait()
	})
}
