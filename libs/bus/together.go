package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Together is a Subscription's Handle that calls handle for what has come of several partitions at once, where batches
// wait for it: for handlers whose calls cost far more than their records, and that take records in any order of
// partitions. At most atOnce calls run at a time, each with at most the records given, or one batch. A call that
// fails is no batch's fault: each of its batches is then handled by itself.
func Together(atOnce, records int, handle func(context.Context, []Record) error) func(context.Context, []Record) error {
	//bound:limit calls of a handler of several partitions | as many as it is made with | batches wait, and share the next call
	t := &together{handle: handle, records: records, places: make(chan struct{}, atOnce)}
	return t.Handle
}

type together struct {
	handle  func(context.Context, []Record) error
	records int
	places  chan struct{}

	mu sync.Mutex
	//bound:queue batches that wait for a handler of several partitions | one a partition | its partition waits
	waiting []*waitingBatch
}

type waitingBatch struct {
	ctx     context.Context
	records []Record
	done    chan error // receives once the batch was taken and handled
}

// errAlone: the batch is to be handled by itself.
var errAlone = errors.New("bus: handled together with others, and failed")

func (t *together) Handle(ctx context.Context, records []Record) error {
	//bound:exempt receives once
	b := &waitingBatch{ctx, records, make(chan error, 1)}
	t.mu.Lock()
	t.waiting = append(t.waiting, b)
	t.mu.Unlock()
	if err := t.await(b); !errors.Is(err, errAlone) {
		return err
	}
	select {
	case t.places <- struct{}{}:
		return t.alone(b)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alone handles one batch, and gives back its place.
func (t *together) alone(b *waitingBatch) error {
	defer func() { <-t.places }()
	return t.handle(b.ctx, b.records)
}

// await the outcome of a batch. Whoever finds a place handles what waits, be it its own or not.
func (t *together) await(b *waitingBatch) error {
	places := t.places
	for {
		select {
		case err := <-b.done:
			return err
		case <-b.ctx.Done():
			if t.leave(b) {
				return b.ctx.Err()
			}
			return <-b.done // its call ends by the same context
		case places <- struct{}{}:
			taken := t.take()
			if len(taken) == 1 && taken[0] == b {
				return t.alone(b)
			}
			t.run(taken)
			<-t.places
			if len(taken) == 0 { // somebody else has taken it
				places = nil
			}
		}
	}
}

// leave tells whether the batch still waited, which it then does no more.
func (t *together) leave(b *waitingBatch) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, b)
	if i < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return true
}

// take takes from those that wait longest what one call may have.
func (t *together) take() []*waitingBatch {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, records := 0, 0
	for n < len(t.waiting) && (n == 0 || records+len(t.waiting[n].records) <= t.records) {
		records += len(t.waiting[n].records)
		n++
	}
	taken := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return taken
}

// run handles batches in one call, and tells each what came of it.
func (t *together) run(batches []*waitingBatch) {
	if len(batches) == 0 {
		return
	}
	err := errAlone
	defer func() {
		_ = recover() // the batch at fault panics once more, by itself
		for _, b := range batches {
			b.done <- err
		}
	}()
	if len(batches) == 1 { // another's
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(batches[0].ctx))
	defer cancel()
	var all []Record
	for _, b := range batches {
		defer context.AfterFunc(b.ctx, cancel)()
		all = append(all, b.records...)
	}
	if t.handle(ctx, all) == nil {
		err = nil
	}
}
