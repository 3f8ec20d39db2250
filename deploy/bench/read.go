package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
)

// readers list at once.
const readers = 64

// read measures the API on a database that holds all of the topic: the newest page of a conversation, opened,
// and how much a search looks through.
func read(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.filled(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.serveDrained(ctx); err != nil {
		return nil, err
	}
	l, err := f.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	scanned, err := f.search(ctx)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	return []figure{
		{Name: "api_list_p99_ms", Value: percentile(l.latency, .99), Unit: "ms"},
		{Name: "api_list_per_second", Value: l.perSecond(), Unit: "pages/s"},
		{Name: "search_messages_per_second", Value: scanned, Unit: "messages/s"},
	}, f.StopProcess(ctx, "conversation")
}

// serveDrained lets the conversation service run on the database that holds all of the topic.
func (f *filled) serveDrained(ctx context.Context) error {
	drained, err := f.drained(ctx)
	if err != nil {
		return err
	}
	if err := f.serveOn(ctx, drained); err != nil {
		return err
	}
	// Where a round has begun anew, it sees again what it has.
	return f.settledOf(ctx, "conversation", 10*time.Minute)
}

// list reads the newest messages of conversations, as many readers as there are side by side, after a tenth of the
// window to warm up.
func (f *filled) list(ctx context.Context) (load, error) {
	address, err := f.address("conversation")
	if err != nil {
		return load{}, err
	}
	ids, err := f.conversations(ctx)
	if err != nil {
		return load{}, err
	}
	requests := make([][]byte, len(ids))
	for i, id := range ids {
		requests[i] = fmt.Appendf(nil, "GET /v1/conversations/%s/messages HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", id, f.api.Key)
	}
	any := func(time.Time) []byte { return requests[rand.IntN(len(requests))] }
	if _, err := hammer(ctx, address, readers, f.window/10, any); err != nil {
		return load{}, err
	}
	l := load{}
	err = f.watched(ctx, "list", func() (err error) {
		l, err = hammer(ctx, address, readers, f.window, any)
		return err
	})
	if err == nil && (l.refused > 0 || l.accepted == 0) {
		err = fmt.Errorf("%d answered, %d refused", l.accepted, l.refused)
	}
	return l, err
}

// conversations gives the ids of all, and wants the newest page of one to be there and opened.
func (f *filled) conversations(ctx context.Context) (ids []string, err error) {
	for cursor := ""; ; {
		page, err := f.api.Call(ctx, http.MethodGet, "/v1/conversations?limit=100"+cursor, nil, http.StatusOK)
		if err != nil {
			return nil, err
		}
		for _, c := range page.List("items") {
			ids = append(ids, c.Text("id"))
		}
		if cursor = page.Text("next_cursor"); cursor == "" {
			break
		}
		cursor = "&cursor=" + cursor
	}
	if len(ids) < f.people*9/10 {
		return nil, fmt.Errorf("there are %d conversations of %d people", len(ids), f.people)
	}
	page, err := f.api.Call(ctx, http.MethodGet, "/v1/conversations/"+ids[len(ids)/2]+"/messages", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	items := page.List("items")
	for _, m := range items {
		if m.Text("content") != "open" || !strings.Contains(m.Text("text"), "parcel") {
			return nil, errors.New("a message is not opened")
		}
	}
	f.say("   %d conversations; a page of one holds %d messages", len(ids), len(items))
	return ids, nil
}

// search looks for what nobody wrote, one search after the other, and gives how many messages a second it
// looked through.
func (f *filled) search(ctx context.Context) (rate float64, err error) {
	err = f.watched(ctx, "search", func() (err error) {
		rate, err = f.searched(ctx)
		return err
	})
	return rate, err
}

func (f *filled) searched(ctx context.Context) (float64, error) {
	began, scanned, cursor := time.Now(), 0.0, ""
	before := 0.0 // scanned counts from the first page on
	for time.Since(began) < f.window || scanned == 0 {
		status, raw, err := f.api.Raw(ctx, http.MethodGet, "/v1/messages/search?q=nowhere"+cursor, nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d: %s", status, raw)
		}
		if err != nil {
			return 0, err
		}
		var page struct {
			Items      []mesh.Object `json:"items"`
			Scanned    float64       `json:"scanned"`
			NextCursor string        `json:"next_cursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return 0, err
		}
		if len(page.Items) > 0 || page.Scanned <= before {
			return 0, fmt.Errorf("it looked through %.0f messages and found %d", page.Scanned, len(page.Items))
		}
		scanned += page.Scanned - before
		before, cursor = page.Scanned, "&cursor="+page.NextCursor
		if page.NextCursor == "" {
			before, cursor = 0, ""
		}
	}
	return scanned / time.Since(began).Seconds(), nil
}
