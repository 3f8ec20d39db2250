package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
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

// openWorld starts the stand-ins and a mesh beside them, and connects both accounts. What it gives has to be
// closed, also beside an error.
func openWorld(ctx context.Context, cfg mesh.Config, known providers) (w *world, err error) {
	w = &world{data: cfg.Data}
	if w.slack, err = standin.NewSlack("127.0.0.1:0", known.users, known.files); err != nil {
		return w, err
	}
	if w.twilio, err = standin.NewTwilio("127.0.0.1:0", accountSID, authToken, known.media); err != nil {
		return w, err
	}
	settings := map[string]string{
		"TRIBUTARY_SLACK_API_URL": w.slack.APIURL(), "TRIBUTARY_SMS_TWILIO_URL": w.twilio.URL, "TRIBUTARY_MEDIA_ALLOW": "127.0.0.0/8",
	}
	maps.Copy(settings, cfg.Settings)
	cfg.Settings = settings
	if w.Mesh, err = mesh.New(cfg); err != nil {
		return w, err
	}
	if err := w.Start(ctx); err != nil {
		return w, err
	}
	if w.api, err = w.Client(); err != nil {
		return w, err
	}
	w.api.KeepConnections(2 * connections)
	made, err := w.api.Call(ctx, "POST", "/v1/apps", mesh.Object{
		"channel": "slack", "name": "proof", "external_id": app, "secrets": mesh.Object{"signing_secret": secret}}, 201)
	if err != nil {
		return w, err
	}
	if _, err := w.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "slack", "name": "Proof", "external_id": team, "app_id": made.Text("id"),
		"credentials": mesh.Object{"bot_token": botToken}}, 201); err != nil {
		return w, err
	}
	connection, err := w.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "sms", "name": "Proof", "external_id": number,
		"settings":    mesh.Object{"messages_per_second": "100"},
		"credentials": mesh.Object{"account_sid": accountSID, "auth_token": authToken}}, 201)
	w.sms = connection.Text("id")
	return w, err
}

// close leaves nothing of it but its folder.
func (w *world) close(ctx context.Context) error {
	var errs []error
	if w.Mesh != nil {
		errs = append(errs, w.Close(ctx))
	}
	if w.slack != nil {
		errs = append(errs, w.slack.Close())
	}
	if w.twilio != nil {
		errs = append(errs, w.twilio.Close())
	}
	return errors.Join(errs...)
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

// insist sends a webhook until it is answered 2xx: again where the mesh can't take it now, or nobody is there.
func (w *world) insist(ctx context.Context, path string, sign func() http.Header, body []byte) error {
	for {
		status, err := w.api.Webhook(ctx, path, sign(), body)
		if err == nil && status/100 == 2 {
			return nil
		}
		if err == nil && status != http.StatusServiceUnavailable && status != http.StatusBadGateway {
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
		if strings.Contains(path, "?") {
			sep = "&"
		}
		cursor = sep + "cursor=" + page.Text("next_cursor")
	}
}

// slackTime is a Slack time stamp n seconds after a moment an hour ago.
func slackTime(base time.Time, n int) string {
	return fmt.Sprintf("%d.%06d", base.Unix()-3600+int64(n), n%1_000_000)
}
