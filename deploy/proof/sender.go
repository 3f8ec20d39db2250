package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tributary.dev/deploy/mesh"
)

// sender sends webhooks as providers do: several at once, and again what is not answered 2xx.
type sender struct {
	r *run
	// atOnce is how many are under way at most.
	atOnce int
	// tries of one webhook; 0: until it is answered 2xx.
	tries int
	// within is how long an answer is waited for; 0: as long as the client does.
	within time.Duration
	// lasting is the least that delivering all takes; 0: as fast as it goes.
	lasting time.Duration
	// wave is how many are sent at once where they are spread over a while; 0: one.
	wave int

	taken, unavailable, failed atomic.Int64
}

// connections that providers have open.
const connections = 64

func newSender(r *run) *sender { return &sender{r: r, atOnce: connections} }

// deliverAll sends webhooks in an order until each is answered 2xx, or given up.
func (s *sender) deliverAll(ctx context.Context, order []uint32) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	var next atomic.Int64
	begun, apart := time.Now(), s.lasting/time.Duration(max(len(order), 1))
	wave, faults := int64(max(s.wave, 1)), make([]error, s.atOnce)
	for n := range s.atOnce {
		workers.Go(func() {
			l := s.line()
			defer l.Close()
			for i := next.Add(1) - 1; i < int64(len(order)); i = next.Add(1) - 1 {
				err := pause(ctx, time.Until(begun.Add(time.Duration(i-i%wave)*apart)))
				if err == nil {
					err = s.deliver(ctx, int(order[i]), l)
				}
				if err != nil {
					faults[n] = err
					cancel()
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(faults...)
}

// line is what one webhook after the other is sent over.
type line struct {
	*mesh.Connection
	acts []act // room for the script that each is found in
}

func (s *sender) line() *line { return &line{s.r.api.Connection(), make([]act, 0, perConversation)} }

// deliver sends one webhook. That of an event which was accepted before is sent as Slack repeats itself.
func (s *sender) deliver(ctx context.Context, event int, l *line) error {
	hook := s.r.webhook(event, l.acts)
	sent, _ := s.r.ledger.when(event)
	for try := 1; ; try++ {
		header := hook.sign()
		if sent > 0 || try > 1 {
			header.Set("X-Slack-Retry-Num", strconv.Itoa(min(try, 3)))
			header.Set("X-Slack-Retry-Reason", "http_timeout")
		}
		s.r.ledger.send(event)
		status, err := s.send(ctx, l, hook.path, header, hook.body)
		switch {
		case err == nil && status/100 == 2:
			s.r.ledger.accept(event)
			s.taken.Add(1)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.failed.Add(1)
		case status == http.StatusServiceUnavailable || status == http.StatusBadGateway:
			s.unavailable.Add(1)
		default:
			s.r.broken("the webhook of event %d is answered %d", event, status)
			return nil
		}
		if try == s.tries {
			return nil
		}
		if err := pause(ctx, min(20*time.Millisecond<<min(try-1, 5), 500*time.Millisecond)); err != nil {
			return err
		}
	}
}

func (s *sender) send(ctx context.Context, l *line, path string, header http.Header, body []byte) (status int, err error) {
	if s.within > 0 {
		within, cancel := context.WithTimeout(ctx, s.within)
		defer cancel()
		ctx = within
	}
	return l.Webhook(ctx, path, header, body)
}
