package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/devbroker"
)

// TestMetrics has everything happen that an operator watches, and wants each counted once at /metrics, by
// the names that docs/operations.md gives.
func TestMetrics(t *testing.T) {
	w := newWorld(t, nil)
	base := time.Now()
	message := func(n int) map[string]any {
		return standin.SlackMessage("D0001", "im", "U0001", slackTime(base, n), "", fmt.Sprintf("message %d", n))
	}
	shows := func(want float64, name string, labels ...string) {
		t.Helper()
		within(t, 20*time.Second, func() error {
			got, err := w.Metric(t.Context(), name, labels...)
			if err == nil && got != want {
				err = fmt.Errorf("%s%q is %v, want %v", name, labels, got, want)
			}
			return err
		})
	}
	atLeast := func(want float64, name string, labels ...string) {
		t.Helper()
		within(t, 20*time.Second, func() error {
			got, err := w.Metric(t.Context(), name, labels...)
			if err == nil && got < want {
				err = fmt.Errorf("%s%q is %v, want at least %v", name, labels, got, want)
			}
			return err
		})
	}

	// Accepted, refused by reason, published.
	for n := range 5 {
		if err := w.deliver(t.Context(), fmt.Sprintf("Ev%d", n), message(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.deliver(t.Context(), "Ev4", message(4)); err != nil { // again
		t.Fatal(err)
	}
	event := standin.SlackEvent(team, app, "Ev9", time.Now(), message(9))
	forged, broken := standin.SlackHeader("another-signing-secret", event, time.Now()), []byte(`{"type":`)
	for _, refused := range []struct {
		path   string
		header map[string][]string
		body   []byte
	}{
		{"/webhooks/slack/proof", forged, event},
		{"/webhooks/slack/proof", forged, event},
		{"/webhooks/slack/proof", standin.SlackHeader(secret, broken, time.Now()), broken},
		{"/webhooks/slack/nobody", forged, event},
	} {
		if status, err := w.api.Webhook(t.Context(), refused.path, refused.header, refused.body); err != nil || status/100 != 4 {
			t.Fatalf("answered %d: %v", status, err)
		}
	}
	slack := `channel="slack"`
	shows(6, "tributary_webhooks_accepted_total", slack)
	shows(0, "tributary_webhooks_accepted_total", `channel="sms"`)
	shows(2, "tributary_webhooks_refused_total", slack, `reason="unverified"`)
	shows(1, "tributary_webhooks_refused_total", slack, `reason="not_found"`)
	shows(4, "tributary_webhooks_refused_total", slack)
	shows(6, "tributary_events_published_total", slack, `type="message"`)
	shows(5, "tributary_events_projected_total", `result="new"`, `type="message"`)
	shows(1, "tributary_events_projected_total", `result="seen"`, `type="message"`)
	atLeast(6, "tributary_published_total", `topic="inbound.slack"`)
	shows(0, "tributary_consumer_lag_records")

	// An edit waits for its message, and no longer.
	edit := standin.SlackEdit("D0001", "im", "U0001", slackTime(base, 20), "", slackTime(base, 21), "before", "after")
	if err := w.deliver(t.Context(), "Ev21", edit); err != nil {
		t.Fatal(err)
	}
	shows(1, "tributary_waiting_events", `kind="edit"`)
	if err := w.deliver(t.Context(), "Ev20", message(20)); err != nil {
		t.Fatal(err)
	}
	shows(0, "tributary_waiting_events", `kind="edit"`)

	// Outcomes: one sent, one whose answer never came. Reading asks the key cache.
	conversations, err := w.all(t.Context(), "/v1/conversations")
	if err != nil || len(conversations) != 1 {
		t.Fatalf("%d conversations: %v", len(conversations), err)
	}
	id := conversations[0].Text("id")
	if _, err := w.post(t.Context(), id, "one", "one"); err != nil {
		t.Fatal(err)
	}
	shows(1, "tributary_sends_total", slack, `status="sent"`)
	shows(1, "tributary_send_outcomes_total", slack, `status="sent"`)
	w.slack.Fail(func(int, string) standin.Failure { return standin.Failure{HangUp: true} })
	if _, err := w.post(t.Context(), id, "two", "two"); err != nil {
		t.Fatal(err)
	}
	shows(1, "tributary_sends_total", slack, `status="unknown"`)
	shows(1, "tributary_send_outcomes_total", slack, `status="unknown"`)
	shows(2, "tributary_sends_total")
	if _, err := w.texts(t.Context(), conversations[0]); err != nil {
		t.Fatal(err)
	}
	atLeast(1, "tributary_key_lookups_total", `service="conversation"`, `result="hit"`)
	atLeast(1, "tributary_key_lookups_total", `service="slack"`, `result="miss"`)

	// A machine that stands still spools what it was about to publish, and brings it home.
	enough := make(chan struct{})
	var load sync.WaitGroup
	for worker := range 8 {
		load.Go(func() {
			for n := 100 + worker; w.deliver(t.Context(), fmt.Sprintf("Ev%d", n), message(n)) == nil; n += 8 {
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	var spooled float64
	within(t, 30*time.Second, func() error {
		resume, err := w.Pause()
		if err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond)
		resume()
		if spooled, err = w.Metric(t.Context(), "tributary_events_spooled_total", slack); err == nil && spooled == 0 {
			err = errors.New("nothing was spooled")
		}
		return err
	})
	close(enough)
	load.Wait()
	atLeast(spooled, "tributary_events_drained_total", slack)
	shows(0, "tributary_spool_lag_seconds", slack)
	shows(0, "tributary_consumer_lag_records")

	// What nobody can read becomes a dead letter and holds nothing up.
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.publish(t, bus.Message{Topic: "inbound.slack", Key: "nobody", Value: []byte("not a channel event")})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	atLeast(1, "tributary_dead_letters_total", `topic="inbound.slack"`)
	if err := w.deliver(t.Context(), "EvLast", message(50)); err != nil {
		t.Fatal(err)
	}
	shows(1, "tributary_events_projected_total", `result="new"`)
	shows(0, "tributary_stopped_partitions")
	shows(0, "tributary_consumer_lag_records")
}

// publish puts a message onto the brokers of a mesh that is stopped.
func (w *world) publish(t *testing.T, m bus.Message) {
	t.Helper()
	broker, err := devbroker.Start(t.Context(), devbroker.Config{Dir: filepath.Join(w.data, "broker")})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	b, err := bus.Open(t.Context(), bus.Config{Brokers: []string{broker.Addr()}, Prefix: "tributary."})
	if err == nil {
		err = errors.Join(b.Publish(t.Context(), m), b.Close(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
}
