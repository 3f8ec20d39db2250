package main

import (
	"sync/atomic"
	"time"
)

// ledger remembers of each webhook when it was first sent and when it was first answered 2xx, in µs since
// the run began.
type ledger struct {
	begun    time.Time
	sent     []atomic.Int64 // 0: never
	accepted []atomic.Int64 // 0: not yet
	n        atomic.Int64   // accepted
}

func newLedger(webhooks int, begun time.Time) *ledger {
	return &ledger{begun: begun, sent: make([]atomic.Int64, webhooks), accepted: make([]atomic.Int64, webhooks)}
}

// now is the moment, never 0.
func (l *ledger) now() int64 { return max(time.Since(l.begun).Microseconds(), 1) }

// send notes that a webhook is about to be sent.
func (l *ledger) send(webhook int) { l.sent[webhook].CompareAndSwap(0, l.now()) }

// accept notes that a webhook was answered 2xx.
func (l *ledger) accept(webhook int) {
	if l.accepted[webhook].CompareAndSwap(0, l.now()) {
		l.n.Add(1)
	}
}

// wasSent tells whether the mesh may know of a webhook; wasAccepted whether it must.
func (l *ledger) wasSent(webhook int) bool     { return l.sent[webhook].Load() > 0 }
func (l *ledger) wasAccepted(webhook int) bool { return l.accepted[webhook].Load() > 0 }

// count is how many were accepted.
func (l *ledger) count() int { return int(l.n.Load()) }

func (l *ledger) size() int { return len(l.sent) }
