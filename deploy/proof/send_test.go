package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// TestKill9WhileSending kills the mesh while replies leave, and the provider is slow, refuses and hangs up.
// It never sees a message twice, nor two of a conversation in the wrong order, and each ends sent or
// unknown.
func TestKill9WhileSending(t *testing.T) {
	threads, replies, kills := 20, 4, 4
	w := newWorld(t, map[string]string{
		"TRIBUTARY_SEND_LATE": "5s", "TRIBUTARY_SEND_LONGEST_CALL": "3s", "TRIBUTARY_CONVERSATION_SWEEP_INTERVAL": "500ms",
	})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	conversations := w.openThreads(ctx, t, threads)

	w.slack.Fail(func(n int, _ string) standin.Failure {
		switch {
		case n%11 == 3:
			return standin.Failure{Refuse: 429, Header: http.Header{"Retry-After": {"1"}}}
		case n%13 == 5:
			return standin.Failure{HangUp: true}
		}
		return standin.Failure{Delay: time.Duration(rand.IntN(200)) * time.Millisecond}
	})
	ids := map[string]string{} // message id -> text
	for reply := range replies {
		for i, c := range conversations {
			text := fmt.Sprintf("reply %d to %d", reply, i)
			key := fmt.Sprintf("reply-%d-%d", reply, i)
			if err := mesh.Eventually(ctx, 30*time.Second, func() error {
				id, err := w.post(ctx, c, text, key)
				if err == nil {
					ids[id] = text
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if reply < kills {
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			w.Kill()
			if err := w.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(ids) != threads*replies {
		t.Fatalf("%d messages were made of %d posts", len(ids), threads*replies)
	}
	statuses := map[string]int{}
	if err := mesh.Eventually(ctx, 3*time.Minute, func() error {
		clear(statuses)
		for id := range ids {
			m, err := w.api.Call(ctx, "GET", "/v1/messages/"+id, nil, 200)
			if err != nil {
				return err
			}
			statuses[m.Text("status")]++
		}
		if statuses["sent"]+statuses["unknown"] != len(ids) {
			return fmt.Errorf("statuses: %v", statuses)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("statuses: %v; the provider took %d", statuses, len(w.slack.Posts()))

	taken := map[string]int{}
	last := map[string]string{} // channel -> the newest reply it has
	for _, p := range w.slack.Posts() {
		var metadata struct {
			Payload struct {
				MessageID string `json:"message_id"`
			} `json:"event_payload"`
		}
		if err := json.Unmarshal(p.Metadata, &metadata); err != nil {
			t.Fatal(err)
		}
		if ids[metadata.Payload.MessageID] != p.Text {
			t.Errorf("%q carries the id of another message", p.Text)
		}
		if taken[p.Text]++; taken[p.Text] > 1 {
			t.Errorf("the provider got %q twice", p.Text)
		}
		if p.Text <= last[p.Channel] { // "reply 0 …" < "reply 1 …"
			t.Errorf("in %s %q came after %q", p.Channel, p.Text, last[p.Channel])
		}
		last[p.Channel] = p.Text
	}
	if statuses["sent"] > len(w.slack.Posts()) {
		t.Errorf("%d are shown as sent, and the provider took %d", statuses["sent"], len(w.slack.Posts()))
	}
}

// openThreads has a person write in n channels and gives the conversations, in the channels' order.
func (w *world) openThreads(ctx context.Context, t *testing.T, n int) []string {
	t.Helper()
	at := time.Now().Add(-time.Hour).Unix()
	for i := range n {
		ts := fmt.Sprintf("%d.%06d", at+int64(i), i)
		if err := w.deliver(ctx, fmt.Sprintf("EvOpen%d", i), standin.SlackMessage(fmt.Sprintf("C%04d", i), "channel", "U0001", ts, "", fmt.Sprintf("opening %04d", i))); err != nil {
			t.Fatal(err)
		}
	}
	ids := make([]string, n)
	if err := mesh.Eventually(ctx, 30*time.Second, func() error {
		all, err := w.all(ctx, "/v1/conversations?limit=200")
		if err != nil {
			return err
		}
		if len(all) != n {
			return fmt.Errorf("%d conversations, want %d", len(all), n)
		}
		for _, c := range all {
			page, err := w.api.Call(ctx, "GET", "/v1/conversations/"+c.Text("id")+"/messages", nil, 200)
			if err != nil {
				return err
			}
			var i int
			if _, err := fmt.Sscanf(strings.TrimPrefix(page.List("items")[0].Text("text"), "opening "), "%d", &i); err != nil {
				return err
			}
			ids[i] = c.Text("id")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
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
