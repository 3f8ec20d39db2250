package main

import (
	"sync/atomic"
	"time"
)

// ledger remembers of each webhook when it was first sent and when it was first answered 2xx, in µs since
// the run began.
type ledger struct {
	begun    time.Time
	sent     []int64      // atomic; 0: never
	accepted []int64      // atomic; 0: not yet
	n        atomic.Int64 // accepted
}

func newLedger(webhooks int, begun time.Time) *ledger {
	return &ledger{begun: begun, sent: make([]int64, webhooks), accepted: make([]int64, webhooks)}
}

// grow makes room for further webhooks, while none are under way.
func (l *ledger) grow(webhooks int) {
	l.sent, l.accepted = append(l.sent, make([]int64, webhooks)...), append(l.accepted, make([]int64, webhooks)...)
}

// now is the moment, never 0.
func (l *ledger) now() int64 { return max(time.Since(l.begun).Microseconds(), 1) }

// send notes that a webhook is about to be sent.
func (l *ledger) send(webhook int) { atomic.CompareAndSwapInt64(&l.sent[webhook], 0, l.now()) }

// accept notes that a webhook was answered 2xx.
func (l *ledger) accept(webhook int) {
	if atomic.CompareAndSwapInt64(&l.accepted[webhook], 0, l.now()) {
		l.n.Add(1)
	}
}

// when a webhook was first sent, and when it was first answered 2xx: 0 where it was not. What was sent the mesh
// may know, what was answered 2xx it must.
func (l *ledger) when(webhook int) (sent, accepted int64) {
	return atomic.LoadInt64(&l.sent[webhook]), atomic.LoadInt64(&l.accepted[webhook])
}

// count is how many were accepted.
func (l *ledger) count() int { return int(l.n.Load()) }

// size is how many webhooks the run has.
func (l *ledger) size() int { return len(l.sent) }
