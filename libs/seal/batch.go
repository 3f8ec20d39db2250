package seal

import (
	"context"
	"sync"
	"time"
)

// batcher turns what many callers ask at once into few calls: questions wait only while parallel calls
// are on their way, and equal ones share one answer. A call goes on for the others when a caller leaves.
type batcher[Q comparable, A any] struct {
	// ask answers the questions in order, within a deadline of its own.
	ask func(ctx context.Context, questions []Q) ([]A, error)
	// group keeps questions apart that can't share a call; nil: all can.
	group func(Q) any

	mu sync.Mutex
	//bound:exempt what waits and what is asked
	open map[Q]*answer[A] // waiting or on their way
	//bound:exempt maxWaiting says it
	waiting []Q
	running int
	soonest bool // what waits is sent in a moment at the latest
}

type answer[A any] struct {
	done  chan struct{}
	value A
	err   error
}

const (
	//bound:limit calls of the registry at once, of each kind | {} | questions wait and share the next call
	parallelCalls = 4
	// maxWaiting bounds the questions that wait; beyond it the registry counts as unavailable.
	//bound:queue questions to the registry that wait, of each kind | {} | it counts as unavailable
	maxWaiting = 64 * MaxItems
)

func (b *batcher[Q, A]) do(ctx context.Context, questions []Q) ([]A, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	answers, err := b.join(ctx, questions)
	if err != nil {
		return nil, err
	}
	values := make([]A, len(answers))
	for i, a := range answers {
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if a.err != nil {
			return nil, a.err
		}
		values[i] = a.value
	}
	return values, nil
}

// soonTime is how long a question waits that nobody waits for, for others to share its call.
//
//bound:timeout a question to the registry that nobody waits for | {} | it is asked
const soonTime = 100 * time.Millisecond

// soon asks before long: nobody waits for the answer. Where a call is full it is not asked.
func (b *batcher[Q, A]) soon(q Q) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) >= MaxItems {
		return
	}
	b.enter(q)
	if !b.soonest {
		b.soonest = true
		//bound:exempt soonTime says it
		time.AfterFunc(soonTime, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.soonest = false
			b.start(context.Background())
		})
	}
}

// enter has a question wait, unless it does or is on its way. The mutex is held.
func (b *batcher[Q, A]) enter(q Q) *answer[A] {
	if b.open == nil {
		b.open = map[Q]*answer[A]{}
	}
	a, ok := b.open[q]
	if !ok {
		a = &answer[A]{done: make(chan struct{})}
		b.open[q] = a
		b.waiting = append(b.waiting, q)
	}
	return a
}

func (b *batcher[Q, A]) join(ctx context.Context, questions []Q) ([]*answer[A], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(questions) > maxWaiting {
		return nil, errOverloaded
	}
	answers := make([]*answer[A], len(questions))
	for i, q := range questions {
		answers[i] = b.enter(q)
	}
	b.start(ctx)
	return answers, nil
}

// start sends what waits, as far as calls may be on their way.
func (b *batcher[Q, A]) start(ctx context.Context) {
	for b.running < parallelCalls && len(b.waiting) > 0 {
		b.running++
		//bound:goroutines calls of the registry, of each kind | {parallelCalls} | questions wait
		go b.run(context.WithoutCancel(ctx), b.take())
	}
}

// take takes the next questions of one group.
func (b *batcher[Q, A]) take() []Q {
	if b.group == nil {
		n := min(len(b.waiting), MaxItems)
		batch := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		return batch
	}
	var batch, rest []Q
	first := b.group(b.waiting[0])
	for _, q := range b.waiting {
		if len(batch) < MaxItems && b.group(q) == first {
			batch = append(batch, q)
		} else {
			rest = append(rest, q)
		}
	}
	b.waiting = rest
	return batch
}

func (b *batcher[Q, A]) run(ctx context.Context, batch []Q) {
	values, err := b.ask(ctx, batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, q := range batch {
		a := b.open[q]
		delete(b.open, q)
		if a.err = err; err == nil {
			a.value = values[i]
		}
		close(a.done)
	}
	b.running--
	b.start(ctx)
}
