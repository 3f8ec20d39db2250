package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// stream follows the live stream of events, and notes when each message was shown first.
type stream struct {
	api    *mesh.Client
	ledger *ledger
	// open is closed once the mesh has said from where it tells: what came before is not told.
	open   chan struct{}
	opened sync.Once

	mu     sync.Mutex
	seen   map[messageID]int64 // µs since the run began
	ended  map[messageID]bool  // replies that were told to have ended
	twice  int                 // messages told as created again
	back   int                 // events whose position was not above the last
	resets int                 // times that it was told to begin anew
	last   string              // position of the newest event
	events int
}

// messageID is the mesh's own, as its 16 bytes.
type messageID [16]byte

func parseID(text []byte) (id messageID, ok bool) {
	if len(text) != 36 {
		return id, false
	}
	var digits [32]byte
	n := 0
	for _, c := range text {
		if c == '-' {
			continue
		}
		if n == len(digits) {
			return id, false
		}
		digits[n] = c
		n++
	}
	_, err := hex.Decode(id[:], digits[:n])
	return id, err == nil && n == 32
}

func newStream(api *mesh.Client, l *ledger) *stream {
	return &stream{api: api, ledger: l, open: make(chan struct{}), seen: map[messageID]int64{}, ended: map[messageID]bool{}}
}

// follow reads the stream until ctx ends, coming back behind the last event whenever it is cut off.
func (s *stream) follow(ctx context.Context) {
	for ctx.Err() == nil {
		_ = s.read(ctx) // it is cut off whenever the mesh is
		if pause(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

func (s *stream) read(ctx context.Context) error {
	header := http.Header{"Authorization": {"Bearer " + s.api.Key}}
	s.mu.Lock()
	if s.last != "" {
		header.Set("Last-Event-ID", s.last)
	}
	s.mu.Unlock()
	body, err := s.api.Stream(ctx, "/v1/events", header)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	var position string
	var event, data []byte
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(field) {
		case "id":
			position = string(value)
		case "event":
			event = append(event[:0], value...)
		case "data":
			data = append(data[:0], value...)
		case "": // what is cut off before this did not come
			if len(data) > 0 {
				s.note(position, event, data)
			}
			s.advance(position)
			event, data = event[:0], data[:0]
		}
	}
	return lines.Err()
}

// advance moves on: events up to position were taken.
func (s *stream) advance(position string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if position != "" {
		s.last = position
		s.opened.Do(func() { close(s.open) })
	}
}

func (s *stream) note(position string, event, data []byte) {
	now := s.ledger.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	if string(event) == "reset" {
		s.resets++
		return
	}
	if at, err := strconv.ParseInt(position, 10, 64); err == nil {
		if before, err := strconv.ParseInt(s.last, 10, 64); err == nil && at <= before {
			s.back++
		}
	}
	id, ok := parseID(field(data, "message_id"))
	if !ok {
		return
	}
	if string(event) == "message.status" {
		switch status := string(field(data, "status")); status {
		case "queued", "sending":
		default:
			s.ended[id] = true
		}
		return
	}
	if string(event) != "message.created" {
		return
	}
	if _, known := s.seen[id]; known {
		s.twice++
		return
	}
	s.seen[id] = now
}

// field that is a text without escapes: an id or a word.
func field(data []byte, name string) []byte {
	_, rest, _ := bytes.Cut(data, []byte(`"`+name+`":"`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return value
}

// when a message was shown first.
func (s *stream) when(id messageID) (at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok = s.seen[id]
	return at, ok
}

// count is how many messages were shown.
func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// endedCount is how many replies have ended.
func (s *stream) endedCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ended)
}

// taken is how many events there were.
func (s *stream) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

// broken promises of the stream: it can be resumed anywhere, and tells everything once, in order.
func (s *stream) broken() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fault := range []struct {
		n    int
		what string
	}{
		{s.resets, "times the event stream could not be resumed"},
		{s.back, "events of the stream came with a position not above the last"},
		{s.twice, "messages were told as created twice"},
	} {
		if fault.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", fault.n, fault.what))
		}
	}
	return all
}
