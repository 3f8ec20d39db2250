package accounts

import (
	"context"
	"sync"
)

// notices tells of connections that became active, outside the table's goroutine: a slow listener does
// not hold the table. What waits is bounded by the number of connections.
//
//bound:queue connections that became active and are not yet told of | each once, so as many as there are | the next notice of one that waits is the same notice
type notices struct {
	mu        sync.Mutex
	listeners []func(connectionID string)
	waiting   map[string]bool
	wake      chan struct{}
}

func newNotices() *notices {
	//bound:queue wake-ups of who tells of active connections | {} | the next is dropped: one is enough
	return &notices{waiting: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (n *notices) add(f func(connectionID string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners = append(n.listeners, f)
}

func (n *notices) put(id string) {
	n.mu.Lock()
	n.waiting[id] = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notices) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		}
		n.mu.Lock()
		ids, listeners := n.waiting, n.listeners
		n.waiting = map[string]bool{}
		n.mu.Unlock()
		for id := range ids {
			for _, f := range listeners {
				f(id)
			}
		}
	}
}
