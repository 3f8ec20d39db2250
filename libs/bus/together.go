package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Together is a Subscription's Handle that calls handle for what has come of several partitions at once, where batches
// wait for it: for handlers whose calls cost far more than their records, and that take records in any order of
// partitions. At most atOnce calls run at a time and they begin a while apart, each with at most the records given, or
// one batch. A call that fails is no batch's fault: each of its batches is then handled by itself.
func Together(atOnce, records int, apart time.Duration, handle func(context.Context, []Record) error) func(context.Context, []Record) error {
	t := &together{
		handle: handle, records: records, apart: apart,
		//bound:limit calls of a handler of several partitions | as many as it is made with | batches wait, and share the next call
		places: make(chan struct{}, atOnce),
		//bound:limit who gathers what waits for a handler of several partitions | {} | the others are gathered
		gathering: make(chan struct{}, 1),
	}
	return t.Handle
}

type together struct {
	handle            func(context.Context, []Record) error
	records           int
	apart             time.Duration
	places, gathering chan struct{}
	began             time.Time // the last call; of who gathers

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

// await the outcome of a batch. Whoever may gather handles what waits, be it its own or not.
func (t *together) await(b *waitingBatch) error {
	gathering := t.gathering
	for {
		select {
		case err := <-b.done:
			return err
		case <-b.ctx.Done():
			if t.leave(b) {
				return b.ctx.Err()
			}
			return <-b.done // its call ends by the same context
		case gathering <- struct{}{}:
			taken := t.gather(b.ctx)
			<-t.gathering
			switch {
			case len(taken) == 0: // somebody has taken it, or its context has ended
				gathering = nil
			case len(taken) == 1 && taken[0] == b:
				return t.alone(b)
			default:
				t.run(taken)
				<-t.places
			}
		}
	}
}

// gather waits until a call may begin, and takes its batches and a place; no batches and no place where none are left
// or ctx ends.
func (t *together) gather(ctx context.Context) []*waitingBatch {
	if sleep(ctx, t.apart-time.Since(t.began)) != nil {
		return nil
	}
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	taken := t.take()
	if len(taken) == 0 {
		<-t.places
		return nil
	}
	t.began = time.Now()
	return taken
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
