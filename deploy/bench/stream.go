package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// stream is a live stream that is followed: when each message was first told of.
type stream struct {
	mu   sync.Mutex
	told map[string]time.Time
	err  error // why it ended

	cancel context.CancelFunc
	ended  chan struct{}
}

// follow opens the live stream of the conversation service and returns once it flows. close it.
func (w *world) follow(ctx context.Context) (*stream, error) {
	p, err := w.Process("conversation")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{told: map[string]time.Time{}, cancel: cancel, ended: make(chan struct{})}
	body, err := mesh.NewClient(p.URL).Stream(ctx, "/v1/events", http.Header{"Authorization": {"Bearer " + w.api.Key}})
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(body)
	if !lines.Scan() { // the first line comes at once
		cancel()
		return nil, errors.Join(errors.New("the live stream ended at once"), lines.Err(), body.Close())
	}
	go func() {
		defer close(s.ended)
		defer body.Close()
		for lines.Scan() {
			s.line(lines.Text())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err = lines.Err(); s.err == nil {
			s.err = errors.New("the live stream ended")
		}
	}()
	return s, nil
}

func (s *stream) line(text string) {
	data, ok := strings.CutPrefix(text, "data: ")
	if !ok || !strings.Contains(data, `"message.created"`) {
		return
	}
	now := time.Now()
	var event struct {
		MessageID string `json:"message_id"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		s.err = err
		return
	}
	if _, again := s.told[event.MessageID]; !again {
		s.told[event.MessageID] = now
	}
}

// when a message was told of.
func (s *stream) when(message string) (at time.Time, told bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, told = s.told[message]
	return at, told, s.err
}

func (s *stream) close() {
	s.cancel()
	<-s.ended
}
