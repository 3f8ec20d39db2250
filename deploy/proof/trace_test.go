package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.dev/libs/channel/standin"
)

// TestOneTrace follows a message over the brokers by its trace: from the webhook to what the API shows, its
// file fetched on the way; and a reply from its POST to the provider and back to its status.
func TestOneTrace(t *testing.T) {
	w := newWorldOf(t, nil, providers{
		users: map[string]string{"U0001": "Traced Person"},
		files: map[string][]byte{"traced.txt": []byte("a file")},
		media: map[string]standin.Media{"traced.jpg": {ContentType: "image/jpeg", Data: []byte{0xff, 0xd8, 0xff, 0xe0, 1}}},
	})
	message := standin.SlackMessage("D0001", "im", "U0001", slackTime(time.Now(), 1), "", "traced")
	message["subtype"], message["files"] = "file_share", []any{map[string]any{
		"id": "F0001", "name": "traced.txt", "mimetype": "text/plain", "size": 6, "url_private_download": w.slack.URL + "/files/traced.txt",
	}}
	if err := errors.Join(
		w.deliver(t.Context(), "EvTrace", message),
		w.deliverSMS(t.Context(), "", standin.TwilioInbound(accountSID, "SM"+strings.Repeat("c", 32), "+41791234599", number, "traced", w.twilio.URL+"/media/traced.jpg")),
	); err != nil {
		t.Fatal(err)
	}
	replied := map[string]bool{}
	within(t, 20*time.Second, func() error {
		conversations, err := w.all(t.Context(), "/v1/conversations")
		if err != nil {
			return err
		}
		for _, c := range conversations {
			if _, err := w.post(t.Context(), c.Text("id"), "an answer", c.Text("id")); err != nil {
				return err
			}
			replied[c.Text("channel")] = true
		}
		if len(w.slack.Posts()) != 1 || len(w.twilio.Posts()) != 1 {
			return fmt.Errorf("replied to %v, the providers have %d and %d", replied, len(w.slack.Posts()), len(w.twilio.Posts()))
		}
		return nil
	})
	// The provider's own receipt comes in by another request, so in another trace; its handling is in that.
	callback, err := url.Parse(w.twilio.Posts()[0].StatusCallback)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.deliverSMS(t.Context(), "?"+callback.RawQuery, standin.TwilioStatus(accountSID, w.twilio.Posts()[0], "delivered", "")); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string][]string{
		"a Slack message and its file": {
			"slack: POST /webhooks/slack/{ref}", "slack: publish inbound.slack",
			"conversation: project event tributary.message", "slack: fetch slack", "conversation: project event tributary.attachment",
		},
		"a text message and its picture": {
			"sms: POST /webhooks/sms/{ref}", "sms: publish inbound.sms",
			"conversation: project event tributary.message", "sms: fetch sms", "conversation: project event tributary.attachment",
		},
		"a reply over Slack": {
			"conversation: POST /v1/conversations/{id}/messages", "slack: send slack", "conversation: project event tributary.receipt",
		},
		"a reply by text message": {
			"conversation: POST /v1/conversations/{id}/messages", "sms: send sms", "conversation: project event tributary.receipt",
		},
		"a provider's receipt": {
			"sms: POST /webhooks/sms/{ref}", "sms: publish inbound.sms", "conversation: project event tributary.receipt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 20*time.Second, func() error {
				traces, err := w.traces()
				if err != nil {
					return err
				}
				for _, spans := range traces {
					if !slices.ContainsFunc(want, func(span string) bool { return !slices.Contains(spans, span) }) {
						return nil
					}
				}
				return fmt.Errorf("no trace has all of %q; there are %q", want, traces)
			})
		})
	}
}

// traces gives, by trace id, each span's service, name and, where it is an event's, type.
func (w *world) traces() (map[string][]string, error) {
	f, err := os.Open(filepath.Join(w.data, "traces.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type attribute struct {
		Key   string
		Value struct{ Value any }
	}
	traces := map[string][]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var span struct {
			Name                 string
			SpanContext          struct{ TraceID string }
			Attributes, Resource []attribute
		}
		if err := json.Unmarshal(lines.Bytes(), &span); err != nil {
			return nil, fmt.Errorf("a line of the trace file: %w", err)
		}
		text := span.Name
		for _, a := range span.Attributes {
			if a.Key == "cloudevents.event_type" {
				text += fmt.Sprintf(" %v", a.Value.Value)
			}
		}
		for _, a := range span.Resource {
			if a.Key == "service.name" {
				text = fmt.Sprintf("%v: %s", a.Value.Value, text)
			}
		}
		traces[span.SpanContext.TraceID] = append(traces[span.SpanContext.TraceID], text)
	}
	return traces, lines.Err()
}
