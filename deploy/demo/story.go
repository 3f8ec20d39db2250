package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
	"tributary.dev/libs/channel/standin"
)

const (
	slackTeam, slackApp = "T0DEMO", "A0DEMO"
	twilioSID           = "AC00000000000000000000000000000001"
	shopNumber          = "+41445550100"
)

// story is the mesh, the providers around it, and what has happened so far.
type story struct {
	*people
	mesh   *mesh.Mesh
	api    *mesh.Client
	slack  *standin.Slack
	twilio *standin.Twilio
	others []providers.Provider
	host   *providers.Host // of the others
	data   string
	began  time.Time

	smsConnection string
	sent          []delivery // everything a provider delivered, to be delivered again
	replies       map[string]string
	annaContact   string
	carlaContact  string
	restore       func() error      // puts the backup from before the erasure in place
	left          map[string]string // what the API shows after it
	certificate   string
}

func newStory(bin, parts, data string) (s *story, err error) {
	s = &story{people: invent(), data: data, began: time.Now(), replies: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.slack, err = standin.NewSlack("127.0.0.1:0", map[string]string{s.annaUser: s.annaName, s.benUser: s.benName},
		map[string][]byte{"anna.txt": []byte(s.fileContent)}); err != nil {
		return s, err
	}
	if s.twilio, err = standin.NewTwilio("127.0.0.1:0", twilioSID, s.twilioToken,
		map[string]standin.Media{"kleid.jpg": {ContentType: "image/jpeg", Data: append([]byte{0xff, 0xd8, 0xff, 0xe0}, s.picture...)}}); err != nil {
		return s, err
	}
	if err = s.startOthers(); err != nil {
		return s, err
	}
	settings := providers.Settings(s.others)
	maps.Copy(settings, map[string]string{
		"TRIBUTARY_CACHE_TTL":                   "2s",
		"TRIBUTARY_SLACK_API_URL":               s.slack.APIURL(),
		"TRIBUTARY_CONNECT_SLACK_AUTHORISE_URL": s.slack.URL + "/oauth/v2/authorize",
		"TRIBUTARY_SMS_TWILIO_URL":              s.twilio.URL,
		"TRIBUTARY_MEDIA_ALLOW":                 "127.0.0.0/8",
		"TRIBUTARY_REGISTRY_SWEEP_AFTER":        "8s",
		"TRIBUTARY_REGISTRY_UPKEEP":             "1s",
		"TRIBUTARY_LOG_LEVEL":                   "debug",
	})
	s.mesh, err = mesh.New(mesh.Config{Bin: bin, Data: data, Real: parts == "real", Settings: settings})
	return s, err
}

func (s *story) close() error {
	var errs []error
	if s.mesh != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, s.mesh.Close(ctx))
	}
	if s.slack != nil {
		errs = append(errs, s.slack.Close())
	}
	if s.twilio != nil {
		errs = append(errs, s.twilio.Close())
	}
	return errors.Join(append(errs, providers.Close(s.others))...)
}

func (s *story) start(ctx context.Context) error {
	if err := s.mesh.Start(ctx); err != nil {
		return err
	}
	var err error
	if s.api, err = s.mesh.Client(); err != nil {
		return err
	}
	s.canary(s.api.Key)
	say("%s at %s; the owner's key lies in a file of mode 0600", s.mesh, s.mesh.URL)
	return nil
}

func (s *story) connect(ctx context.Context) error {
	app, err := s.api.Call(ctx, "POST", "/v1/apps", mesh.Object{
		"channel": "slack", "name": "demo", "external_id": slackApp, "secrets": mesh.Object{"signing_secret": s.slackSecret},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	if _, err := s.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "slack", "name": "Demo team", "external_id": slackTeam, "app_id": app.Text("id"),
		"credentials": mesh.Object{"bot_token": s.botToken},
	}, http.StatusCreated); err != nil {
		return err
	}
	sms, err := s.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "sms", "name": "Demo number", "external_id": shopNumber,
		"credentials": mesh.Object{"account_sid": twilioSID, "auth_token": s.twilioToken},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	s.smsConnection = sms.Text("id")
	say("Slack team %s and number %s are connected", slackTeam, shopNumber)
	return nil
}

// delivery is a webhook as a provider sends it; signed anew at each sending.
type delivery struct {
	path string
	body []byte
	sign func(body []byte) http.Header
}

func (s *story) slackDelivery(eventID string, event map[string]any) delivery {
	return delivery{"/webhooks/slack/demo", standin.SlackEvent(slackTeam, slackApp, eventID, time.Now(), event),
		func(b []byte) http.Header { return standin.SlackHeader(s.slackSecret, b, time.Now()) }}
}

func (s *story) twilioDelivery(query string, form url.Values) delivery {
	path := "/webhooks/sms/" + s.smsConnection + query
	return delivery{path, []byte(form.Encode()),
		func([]byte) http.Header { return standin.TwilioHeader(s.twilioToken, s.mesh.URL+path, form) }}
}

// deliver sends webhooks, so many at once, and wants 2xx for each; what is not is sent again, as providers
// do.
func (s *story) deliver(ctx context.Context, atOnce int, all []delivery) error {
	for batch := range slices.Chunk(all, atOnce) {
		errs := make([]error, len(batch))
		var under sync.WaitGroup
		for i, d := range batch {
			under.Go(func() {
				errs[i] = mesh.Eventually(ctx, 10*time.Second, func() error {
					status, err := s.api.Webhook(ctx, d.path, d.sign(d.body), d.body)
					if err == nil && status/100 != 2 {
						err = fmt.Errorf("%s answered %d", d.path, status)
					}
					return err
				})
			})
		}
		under.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// shown is what the API gives of every conversation, byte for byte.
func (s *story) shown(ctx context.Context) (map[string]string, error) {
	list, err := s.api.Call(ctx, "GET", "/v1/conversations", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	shown := map[string]string{}
	for _, c := range list.List("items") {
		status, raw, err := s.api.Raw(ctx, "GET", "/v1/conversations/"+c.Text("id")+"/messages", nil)
		if err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("messages: %d %w", status, err)
		}
		shown[c.Text("id")] = string(raw)
	}
	return shown, nil
}

// wantShown wants the API to give just that.
func (s *story) wantShown(ctx context.Context, want map[string]string) error {
	now, err := s.shown(ctx)
	if err == nil && !maps.Equal(now, want) {
		err = fmt.Errorf("the API shows something else than before:\n%v\n%v", want, now)
	}
	return err
}

// sentOnce wants nothing to have been sent but the two replies.
func (s *story) sentOnce() error {
	if n, m := len(s.slack.Posts()), len(s.twilio.Posts()); n != 1 || m != 1 {
		return fmt.Errorf("%d messages at Slack and %d at Twilio, where one was sent to each", n, m)
	}
	return nil
}
