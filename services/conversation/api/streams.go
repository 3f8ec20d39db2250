package api

import (
	"slices"
	"sync"
	"time"

	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/store"
)

// streams counts the open ones and wakes them.
type streams struct {
	// ended is closed when all shall end.
	ended chan struct{}

	mu    sync.Mutex
	woken chan struct{} // closed by the next wake
	open  int
	//bound:limit live streams | {Limits.Streams}, of one workspace {Limits.WorkspaceStreams} | 503, 429
	openBy map[string]int
	done   bool
	// from is where the rows begin that the relay handed over last, upTo where they end, and end where what it has placed does.
	from, upTo, end int64
	//bound:cache rows that were just placed | rows of {recentEvents} events | a stream that is further behind reads the outbox
	recent []store.Row
	events int // of recent
}

// recentEvents are kept for the streams to tell of.
const recentEvents = 1000

// placed keeps what was placed, and wakes the streams.
func (s *streams) placed(page relay.Page) {
	defer s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = max(s.end, page.End)
	if page.UpTo <= s.upTo { // who placed it is told of later than who placed behind it
		return
	}
	if page.From != s.upTo {
		s.from, s.upTo, s.recent, s.events = page.From, page.From, nil, 0
	}
	s.upTo = page.UpTo
	for _, row := range page.Rows {
		s.recent, s.events = append(s.recent, row), s.events+row.Entries
	}
	for s.events > recentEvents {
		s.from, s.events = s.recent[0].Position, s.events-s.recent[0].Entries
		s.recent = s.recent[1:]
	}
}

// after gives the rows behind a position, those of eventBatch events, and how far they reach; known is false where they
// must be read from the outbox. more: there are others behind them.
func (s *streams) after(last int64) (rows []store.Row, upTo int64, more, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last < s.from || last >= s.upTo {
		return nil, 0, false, false
	}
	first, _ := slices.BinarySearchFunc(s.recent, last, func(row store.Row, last int64) int {
		if row.Position <= last {
			return -1
		}
		return 1
	})
	rows = s.recent[first:]
	events := 0
	for i, row := range rows {
		if events += row.Entries; events >= eventBatch && i+1 < len(rows) {
			return rows[:i+1], row.Position, true, true
		}
	}
	return rows, s.upTo, s.upTo < s.end, true
}

// knows tells whether an event was handed over, or is from before.
func (s *streams) knows(position int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent != nil && position <= s.upTo
}

func newStreams() *streams {
	return &streams{ended: make(chan struct{}), woken: make(chan struct{}), openBy: map[string]int{}}
}

func (s *streams) enter(workspace string, most Limits) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done || s.open >= most.Streams:
		return problem.Unavailable("a further event stream")
	case s.openBy[workspace] >= most.WorkspaceStreams:
		return problem.TooMany(5 * time.Second)
	}
	s.open++
	s.openBy[workspace]++
	return nil
}

func (s *streams) leave(workspace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.openBy[workspace]--; s.openBy[workspace] == 0 {
		delete(s.openBy, workspace)
	}
}

// pause is how long each of the open ones lets the database alone.
func (s *streams) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(time.Duration(s.open)*pauseEach, pauseLeast), pauseMost)
}

// next is closed by the next wake.
func (s *streams) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.woken
}

func (s *streams) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.woken)
	s.woken = make(chan struct{})
}

func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done = true
		close(s.ended)
	}
}
