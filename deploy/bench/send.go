package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tributary.dev/deploy/mesh"
)

// send is how many messages that members write reach the provider a second, from the API's request to the
// provider's, while the API is asked by as many callers as it takes. The provider has no limit, and nobody is written
// to twice in a second, which is Slack's own.
func send(ctx context.Context, e *env) (figures []figure, err error) {
	w, err := e.newWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	// Few would be paced throughout a short window.
	conversations, err := w.written(ctx, max(e.size(4000), 200))
	if err != nil {
		return nil, err
	}
	address, err := w.address("conversation")
	if err != nil {
		return nil, err
	}
	const body = `{"text":"It left on Monday, and should be with you tomorrow."}`
	posted := 0
	next := func(time.Time) []byte {
		to := conversations[posted%len(conversations)]
		posted++
		return []byte("POST /v1/conversations/" + to + "/messages HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + w.api.Key +
			"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	}
	if err := mesh.Eventually(ctx, time.Minute, func() error { // until the way is warm
		if _, err := hammer(ctx, address, 32, e.window/4, next); err != nil {
			return err
		}
		if len(w.slack.Posts()) == 0 {
			return errors.New("nothing has reached the provider")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	before := len(w.slack.Posts())
	began := time.Now()
	var l load
	run := func() (err error) {
		l, err = hammer(ctx, address, 32, e.window, next)
		return err
	}
	if err := e.profiled(ctx, w, "send", run, "slack", "conversation", "privacy")(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	sent := len(w.slack.Posts()) - before
	if l.refused > 0 || sent == 0 {
		return nil, fmt.Errorf("%d messages refused, %d reached the provider", l.refused, sent)
	}
	e.say("   %d messages were written in %.1f s, %d reached the provider", l.accepted, took.Seconds(), sent)
	return []figure{{Name: "send_per_second", Value: float64(sent) / took.Seconds(), Unit: "messages/s"}}, nil
}

// written lets so many people write once, and gives their conversations.
func (w *world) written(ctx context.Context, people int) (conversations []string, err error) {
	address, err := w.address("slack")
	if err != nil {
		return nil, err
	}
	maker := newWebhooks(0, newPeople)
	err = mesh.Eventually(ctx, 5*time.Minute, func() error {
		for more := maker.n + people - len(conversations); maker.n < more; { // the first may have been refused
			if _, err := hammer(ctx, address, 16, 50*time.Millisecond, maker.next); err != nil {
				return err
			}
		}
		if err := w.done(ctx); err != nil {
			return err
		}
		if conversations, err = w.conversations(ctx, people); err == nil && len(conversations) < people {
			return fmt.Errorf("%d conversations of %d people", len(conversations), people)
		}
		return err
	})
	return conversations, err
}

// conversations that there are, so many and the rest of their page.
func (w *world) conversations(ctx context.Context, most int) (ids []string, err error) {
	for query := "?limit=100"; len(ids) < most; {
		page, err := w.api.Call(ctx, http.MethodGet, "/v1/conversations"+query, nil, http.StatusOK)
		if err != nil {
			return nil, err
		}
		for _, c := range page.List("items") {
			ids = append(ids, c.Text("id"))
		}
		cursor := page.Text("next_cursor")
		if cursor == "" {
			break
		}
		query = "?limit=100&cursor=" + url.QueryEscape(cursor)
	}
	return ids, nil
}
