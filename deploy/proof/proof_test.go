// Package proof turns on a running mesh, from outside: it does harm, and holds what the API then shows
// against a model of its own.
package proof

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	team, app, secret     = "T0PROOF", "A0PROOF", "8f742231b10e8888abcd99yyyzzz85a5"
	accountSID, authToken = "AC00000000000000000000000000000002", "98765432109876543210987654321098"
	number                = "+41445550177"
	botToken              = "xoxb-proof-canary-token-66"
)

var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds what the tests run.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tributary-proof-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	build := exec.Command("go", "build", "-o", dir, "./cmd/tributary")
	build.Dir = filepath.Join("..", "..", "services", "standalone")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is a mesh with a Slack team and a number at Twilio connected to it.
type world struct {
	*mesh.Mesh
	api    *mesh.Client
	slack  *standin.Slack
	twilio *standin.Twilio
	data   string
	sms    string // the number's connection
}

// people and files that the providers know.
type providers struct {
	users map[string]string
	files map[string][]byte
	media map[string]standin.Media
}

func newWorld(t *testing.T, settings map[string]string) *world {
	t.Helper()
	return newWorldOf(t, settings, providers{users: map[string]string{}})
}

func newWorldOf(t *testing.T, settings map[string]string, known providers) *world {
	t.Helper()
	w := &world{data: t.TempDir()}
	var err error
	if w.slack, err = standin.NewSlack("127.0.0.1:0", known.users, known.files); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.slack.Close() })
	if w.twilio, err = standin.NewTwilio("127.0.0.1:0", accountSID, authToken, known.media); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.twilio.Close() })
	all := map[string]string{
		"TRIBUTARY_SLACK_API_URL": w.slack.APIURL(), "TRIBUTARY_SMS_TWILIO_URL": w.twilio.URL,
		"TRIBUTARY_MEDIA_ALLOW": "127.0.0.0/8", "TRIBUTARY_LOG_LEVEL": "debug",
	}
	for name, value := range settings {
		all[name] = value
	}
	if w.Mesh, err = mesh.New(mesh.Config{Bin: binaries, Data: w.data, Settings: all}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		if t.Failed() {
			logs, _ := os.ReadFile(filepath.Join(w.data, "tributary.log"))
			t.Logf("the end of the log:\n%s", logs[max(0, len(logs)-4000):])
		}
	})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.api, err = w.Client(); err != nil {
		t.Fatal(err)
	}
	made := w.must(t, "POST", "/v1/apps", mesh.Object{
		"channel": "slack", "name": "proof", "external_id": app, "secrets": mesh.Object{"signing_secret": secret}}, 201)
	w.must(t, "POST", "/v1/connections", mesh.Object{
		"channel": "slack", "name": "Proof", "external_id": team, "app_id": made.Text("id"),
		"credentials": mesh.Object{"bot_token": botToken}}, 201)
	w.sms = w.must(t, "POST", "/v1/connections", mesh.Object{
		"channel": "sms", "name": "Proof", "external_id": number,
		"credentials": mesh.Object{"account_sid": accountSID, "auth_token": authToken}}, 201).Text("id")
	return w
}

func (w *world) must(t *testing.T, method, path string, body any, want int) mesh.Object {
	t.Helper()
	o, err := w.api.Call(t.Context(), method, path, body, want)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// within wants check to succeed in time.
func within(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	if err := mesh.Eventually(t.Context(), d, check); err != nil {
		t.Fatal(err)
	}
}

// deliver sends an event until it is answered 2xx, as a provider would that never gives up.
func (w *world) deliver(ctx context.Context, eventID string, event map[string]any) error {
	body := standin.SlackEvent(team, app, eventID, time.Now(), event)
	return w.insist(ctx, "/webhooks/slack/proof", func() http.Header { return standin.SlackHeader(secret, body, time.Now()) }, body)
}

// deliverSMS does the same with a form of Twilio's; query is the callback's.
func (w *world) deliverSMS(ctx context.Context, query string, form url.Values) error {
	path := "/webhooks/sms/" + w.sms + query
	return w.insist(ctx, path, func() http.Header { return standin.TwilioHeader(authToken, w.URL+path, form) }, []byte(form.Encode()))
}

func (w *world) insist(ctx context.Context, path string, sign func() http.Header, body []byte) error {
	for {
		status, err := w.api.Webhook(ctx, path, sign(), body)
		if err == nil && status/100 == 2 {
			return nil
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return fmt.Errorf("answered %d", status)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// all pages of a list.
func (w *world) all(ctx context.Context, path string) ([]mesh.Object, error) {
	var items []mesh.Object
	cursor := ""
	for {
		page, err := w.api.Call(ctx, "GET", path+cursor, nil, 200)
		if err != nil {
			return nil, err
		}
		items = append(items, page.List("items")...)
		if page.Text("next_cursor") == "" {
			return items, nil
		}
		sep := "?"
		if bytes.ContainsRune([]byte(path), '?') {
			sep = "&"
		}
		cursor = sep + "cursor=" + page.Text("next_cursor")
	}
}

// slackTime is a Slack time stamp n seconds after a moment an hour ago.
func slackTime(base time.Time, n int) string {
	return fmt.Sprintf("%d.%06d", base.Unix()-3600+int64(n), n%1_000_000)
}
