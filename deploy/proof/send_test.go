package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// TestKill9DuringCalls kills the mesh while the provider holds calls: before it takes the message, after it
// took it and before it answers, and as it answers. None is called again by itself; a person may retry
// what is unknown; and the provider's echo says of what it took that it was sent.
func TestKill9DuringCalls(t *testing.T) {
	const before, after, answering = 0, 1, 2
	w := newWorld(t, impatient())
	conversations := w.openThreads(t, 3)
	at := make(chan int, 16)
	w.slack.Fail(func(n int, _ string) standin.Failure {
		at <- n
		return []standin.Failure{before: {Before: 2 * time.Second}, after: {Delay: 2 * time.Second}, answering: {}}[n-1]
	})
	first, next := make([]string, 3), make([]string, 3)
	for i, c := range conversations {
		var err error
		if first[i], err = w.post(t.Context(), c, fmt.Sprintf("first %d", i), fmt.Sprintf("first-%d", i)); err != nil {
			t.Fatal(err)
		}
		if next[i], err = w.post(t.Context(), c, fmt.Sprintf("next %d", i), fmt.Sprintf("next-%d", i)); err != nil {
			t.Fatal(err)
		}
		<-at // the provider has this call: the next is another conversation's
	}
	w.Kill()
	w.slack.Fail(nil)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, func() error {
		for i := range first {
			if m, err := w.message(t.Context(), next[i]); err != nil || m.Text("status") != "sent" {
				return fmt.Errorf("next %d is %s: %w", i, m.Text("status"), err)
			}
		}
		return nil
	})
	for i, want := range map[int]string{before: "unknown", after: "unknown", answering: "sent unknown"} {
		if m, err := w.message(t.Context(), first[i]); err != nil || !strings.Contains(want, m.Text("status")) {
			t.Fatalf("first %d is %s, want %s: %v", i, m.Text("status"), want, err)
		}
	}
	if got := w.taken("first 0"); len(got) != 0 {
		t.Fatalf("the provider took a message %d times whose caller was gone", len(got))
	}
	for _, text := range []string{"first 1", "first 2", "next 0", "next 1", "next 2"} {
		if got := w.taken(text); len(got) != 1 {
			t.Fatalf("the provider took %q %d times", text, len(got))
		}
	}

	// The echo of what the provider took says that it was sent.
	for n, i := range []int{after, answering} {
		echo := standin.SlackMetadataPosted(app, w.taken(fmt.Sprintf("first %d", i))[0])
		if err := w.deliver(t.Context(), fmt.Sprintf("EvEcho%d", n), echo); err != nil {
			t.Fatal(err)
		}
	}
	// What it did not take, a person retries: behind what has left meanwhile.
	w.must(t, "POST", "/v1/messages/"+first[before]+"/retry", mesh.Object{}, 200)
	within(t, 20*time.Second, func() error {
		for i, id := range first {
			if m, err := w.message(t.Context(), id); err != nil || m.Text("status") != "sent" {
				return fmt.Errorf("first %d is %s: %w", i, m.Text("status"), err)
			}
		}
		return nil
	})
	for i := range conversations {
		for _, text := range []string{fmt.Sprintf("first %d", i), fmt.Sprintf("next %d", i)} {
			if got := w.taken(text); len(got) != 1 {
				t.Errorf("the provider took %q %d times", text, len(got))
			}
		}
	}
}

// openThreads has a person write in n channels and gives the conversations, in the channels' order.
func (w *world) openThreads(t *testing.T, n int) []string {
	t.Helper()
	base := time.Now()
	for i := range n {
		message := standin.SlackMessage(fmt.Sprintf("C%04d", i), "channel", "U0001", slackTime(base, i), "", fmt.Sprintf("opening %04d", i))
		if err := w.deliver(t.Context(), fmt.Sprintf("EvOpen%d", i), message); err != nil {
			t.Fatal(err)
		}
	}
	ids := make([]string, n)
	within(t, 30*time.Second, func() error {
		all, err := w.all(t.Context(), "/v1/conversations?limit=200")
		if err != nil {
			return err
		}
		if len(all) != n {
			return fmt.Errorf("%d conversations, want %d", len(all), n)
		}
		for _, c := range all {
			texts, err := w.texts(t.Context(), c)
			if err != nil {
				return err
			}
			var i int
			if _, err := fmt.Sscanf(texts[0], "opening %d", &i); err != nil {
				return err
			}
			ids[i] = c.Text("id")
		}
		return nil
	})
	return ids
}

// taken are the provider's messages of a text.
func (w *world) taken(text string) (posts []standin.SlackPost) {
	for _, p := range w.slack.Posts() {
		if p.Text == text {
			posts = append(posts, p)
		}
	}
	return posts
}

func (w *world) message(ctx context.Context, id string) (mesh.Object, error) {
	return w.api.Call(ctx, "GET", "/v1/messages/"+id, nil, 200)
}

// post sends a reply with an Idempotency-Key, so that asking again makes no second one.
func (w *world) post(ctx context.Context, conversation, text, key string) (string, error) {
	status, raw, err := w.api.RawIdempotent(ctx, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": text}, key)
	if err != nil {
		return "", err
	}
	if status != http.StatusCreated {
		return "", fmt.Errorf("post: %d %s", status, raw)
	}
	var m mesh.Object
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", err
	}
	if m.Text("id") == "" {
		return "", errors.New("a message without an id")
	}
	return m.Text("id"), nil
}

// texts of a conversation's messages, in the API's order.
func (w *world) texts(ctx context.Context, conversation mesh.Object) ([]string, error) {
	messages, err := w.all(ctx, "/v1/conversations/"+conversation.Text("id")+"/messages?order=asc&limit=200")
	texts := make([]string, len(messages))
	for i, m := range messages {
		texts[i] = m.Text("text")
	}
	return texts, err
}
