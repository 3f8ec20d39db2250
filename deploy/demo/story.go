package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/seal/canary"
)

const (
	slackTeam, slackApp, slackSecret = "T0DEMO", "A0DEMO", "8f742231b10e8888abcd99yyyzzz85a5"
	twilioSID, twilioToken           = "AC00000000000000000000000000000001", "12345678901234567890123456789012"
	shopNumber                       = "+41445550100"

	annaUser, benUser = "U0ANNA", "U0BEN"
	carlaNumber       = "+41791234567"
)

// What people wrote: the canaries. None of it may stand in any file, in any encoding.
var (
	annaWords = []string{
		"Guten Tag, hier ist Annabelle Xylander-Quist",
		"meine Bestellung 4711-Kanarienvogel fehlt",
		"sie ging an die Zwetschgengasse 23a", // an edit corrects it
		"bitte rufen Sie nicht an",            // deleted
		"hier das Foto vom leeren Paket",
	}
	annaCorrected = "sie ging an die Zwetschgengasse 32b"
	annaFile      = "leeres-paket-annabelle.txt"
	benWords      = "Benedikt Oberhuber fragt in der Gruppe nach"
	annaInGroup   = "und Annabelle antwortet in der Gruppe"
	carlaWords    = []string{"Carla Montefiore-Brandt hier: ist mein Kleid fertig?", "ich komme um Viertel nach vier"}
	replyToAnna   = "Guten Tag Annabelle, das Paket kommt morgen"
	replyToCarla  = "Liebe Carla Montefiore, es ist fertig"
	photo         = "JPEG-of-Carla-Montefiore-in-the-dress"
)

type story struct {
	mesh   *mesh.Mesh
	api    *mesh.Client
	slack  *standin.Slack
	twilio *standin.Twilio
	data   string

	smsConnection string
	sent          []delivery // everything a provider delivered, to be delivered again
	before        map[string]string
	annaContact   string
	carlaContact  string
	certificate   string
}

// delivery is a webhook as a provider sends it; signed anew at each sending.
type delivery struct {
	path string
	body []byte
	sign func(body []byte) http.Header
}

func newStory(bin, parts, data string) (*story, error) {
	s := &story{data: data}
	var err error
	if s.slack, err = standin.NewSlack("127.0.0.1:0", map[string]string{annaUser: "Annabelle Xylander-Quist", benUser: "Benedikt Oberhuber"},
		map[string][]byte{"anna.txt": []byte("Im Paket war nur Luft, schreibt Annabelle Xylander-Quist.")}); err != nil {
		return nil, err
	}
	if s.twilio, err = standin.NewTwilio("127.0.0.1:0", twilioSID, twilioToken,
		map[string]standin.Media{"kleid.jpg": {ContentType: "image/jpeg", Data: append([]byte{0xff, 0xd8, 0xff, 0xe0}, photo...)}}); err != nil {
		return nil, err
	}
	s.mesh, err = mesh.New(mesh.Config{Bin: bin, Data: data, Real: parts == "real", Settings: map[string]string{
		"TRIBUTARY_CACHE_TTL":            "2s",
		"TRIBUTARY_SLACK_API_URL":        s.slack.APIURL(),
		"TRIBUTARY_SMS_TWILIO_URL":       s.twilio.URL,
		"TRIBUTARY_MEDIA_ALLOW":          "127.0.0.0/8",
		"TRIBUTARY_REGISTRY_SWEEP_AFTER": "5s",
		"TRIBUTARY_REGISTRY_UPKEEP":      "1s",
		"TRIBUTARY_LOG_LEVEL":            "debug",
	}})
	return s, err
}

func (s *story) close() {
	if s.mesh != nil {
		s.mesh.Kill()
	}
	_ = s.slack.Close()
	_ = s.twilio.Close()
}

func (s *story) start(ctx context.Context) error {
	if err := s.mesh.Start(ctx); err != nil {
		return err
	}
	var err error
	if s.api, err = s.mesh.Client(); err != nil {
		return err
	}
	say("%s at %s; the owner's key lies in a file of mode 0600", s.mesh, s.mesh.URL)
	return nil
}

func (s *story) connect(ctx context.Context) error {
	app, err := s.api.Call(ctx, "POST", "/v1/apps", mesh.Object{
		"channel": "slack", "name": "demo", "external_id": slackApp, "secrets": mesh.Object{"signing_secret": slackSecret},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	if _, err := s.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "slack", "name": "Demo team", "external_id": slackTeam, "app_id": app.Text("id"),
		"credentials": mesh.Object{"bot_token": "xoxb-demo-token"},
	}, http.StatusCreated); err != nil {
		return err
	}
	sms, err := s.api.Call(ctx, "POST", "/v1/connections", mesh.Object{
		"channel": "sms", "name": "Demo number", "external_id": shopNumber,
		"credentials": mesh.Object{"account_sid": twilioSID, "auth_token": twilioToken},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	s.smsConnection = sms.Text("id")
	say("Slack team %s and number %s are connected", slackTeam, shopNumber)
	return nil
}

// ts is a Slack time stamp n seconds into the demo's conversation, an hour ago.
func ts(n int) string {
	return fmt.Sprintf("%d.%06d", time.Now().Add(-time.Hour).Truncate(time.Hour).Unix()+int64(n), n)
}

func (s *story) slackDelivery(eventID string, event map[string]any) delivery {
	return delivery{"/webhooks/slack/demo", standin.SlackEvent(slackTeam, slackApp, eventID, time.Now(), event),
		func(b []byte) http.Header { return standin.SlackHeader(slackSecret, b, time.Now()) }}
}

func (s *story) twilioDelivery(query string, form url.Values) delivery {
	path := "/webhooks/sms/" + s.smsConnection + query
	return delivery{path, []byte(form.Encode()),
		func([]byte) http.Header { return standin.TwilioHeader(twilioToken, s.mesh.URL+path, form) }}
}

// deliver sends webhooks and wants 2xx for each; a 503 is sent again, as providers do.
func (s *story) deliver(ctx context.Context, all []delivery) error {
	for i, d := range all {
		if err := mesh.Eventually(ctx, 10*time.Second, func() error {
			h := d.sign(d.body)
			if i%3 == 1 {
				h.Set("X-Slack-Retry-Num", "1")
				h.Set("X-Slack-Retry-Reason", "http_timeout")
			}
			status, err := s.api.Webhook(ctx, d.path, h, d.body)
			if err == nil && status/100 != 2 {
				err = fmt.Errorf("%s answered %d", d.path, status)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) traffic(ctx context.Context) error {
	im := func(n int, text string) map[string]any {
		return standin.SlackMessage("D0ANNA", "im", annaUser, ts(n), "", text)
	}
	withFile := im(5, annaWords[4])
	withFile["subtype"] = "file_share"
	withFile["files"] = []any{map[string]any{
		"id": "F0ANNA", "name": annaFile, "mimetype": "text/plain", "size": 58,
		"url_private": s.slack.URL + "/files/anna.txt", "url_private_download": s.slack.URL + "/files/anna.txt",
	}}
	s.sent = []delivery{
		s.slackDelivery("Ev01", im(1, annaWords[0])),
		s.slackDelivery("Ev02", im(2, annaWords[1])),
		s.slackDelivery("Ev03", im(3, annaWords[2])),
		s.slackDelivery("Ev04", standin.SlackEdit("D0ANNA", "im", annaUser, ts(3), "", ts(13), annaWords[2], annaCorrected)),
		s.slackDelivery("Ev05", im(4, annaWords[3])),
		s.slackDelivery("Ev06", standin.SlackDeletion("D0ANNA", "im", annaUser, ts(4), ts(14))),
		s.slackDelivery("Ev07", withFile),
		s.slackDelivery("Ev08", standin.SlackReaction("D0ANNA", annaUser, ts(2), ts(15), "wave", false)),
		s.slackDelivery("Ev09", standin.SlackMessage("C0SHOP", "channel", benUser, ts(20), "", benWords)),
		s.slackDelivery("Ev10", standin.SlackMessage("C0SHOP", "channel", annaUser, ts(21), ts(20), annaInGroup)),
		s.twilioDelivery("", standin.TwilioInbound(twilioSID, "SM"+strings.Repeat("a", 32), carlaNumber, shopNumber, carlaWords[0])),
		s.twilioDelivery("", standin.TwilioInbound(twilioSID, "SM"+strings.Repeat("b", 32), carlaNumber, shopNumber, carlaWords[1], s.twilio.URL+"/media/kleid.jpg")),
	}
	// SMS carries no time of the provider: its two keep their order. Slack's come in any, the edit and the
	// deletion before what they are about, and each twice.
	slackFirst := append([]delivery{}, s.sent[:10]...)
	rand.Shuffle(len(slackFirst), func(i, j int) { slackFirst[i], slackFirst[j] = slackFirst[j], slackFirst[i] })
	first := append([]delivery{s.sent[3], s.sent[5]}, slackFirst...)
	for _, group := range [][]delivery{first, s.sent[10:], slackFirst[:5], s.sent[10:11]} {
		if err := s.deliver(ctx, group); err != nil {
			return err
		}
	}
	say("%d webhooks answered 2xx: %d events, most of them more than once, in no order", len(first)+len(slackFirst[:5])+3, len(s.sent))

	forged := standin.SlackEvent(slackTeam, slackApp, "Ev99", time.Now(), im(99, "forged"))
	status, err := s.api.Webhook(ctx, "/webhooks/slack/demo", standin.SlackHeader("not-the-secret", forged, time.Now()), forged)
	if err != nil {
		return err
	}
	if status != http.StatusUnauthorized {
		return fmt.Errorf("the forged webhook was answered %d", status)
	}
	say("the forged one was answered 401")
	return nil
}

// conversation finds the conversation whose messages are exactly want, in that order.
func (s *story) conversation(ctx context.Context, want ...string) (id string, messages []mesh.Object, err error) {
	list, err := s.api.Call(ctx, "GET", "/v1/conversations", nil, 200)
	if err != nil {
		return "", nil, err
	}
	var seen []string
	for _, c := range list.List("items") {
		page, err := s.api.Call(ctx, "GET", "/v1/conversations/"+c.Text("id")+"/messages?order=asc", nil, 200)
		if err != nil {
			return "", nil, err
		}
		messages := page.List("items")
		var texts []string
		for _, m := range messages {
			texts = append(texts, m.Text("text"))
		}
		if fmt.Sprint(texts) == fmt.Sprint(want) {
			return c.Text("id"), messages, nil
		}
		seen = append(seen, fmt.Sprintf("%q", texts))
	}
	return "", nil, fmt.Errorf("no conversation holds %q; there are: %s", want, strings.Join(seen, "; "))
}

func (s *story) read(ctx context.Context) error {
	anna := []string{annaWords[0], annaWords[1], annaCorrected, "", annaWords[4]}
	return mesh.Eventually(ctx, 15*time.Second, func() error {
		id, messages, err := s.conversation(ctx, anna...)
		if err != nil {
			return err
		}
		if _, _, err := s.conversation(ctx, benWords, annaInGroup); err != nil {
			return err
		}
		_, sms, err := s.conversation(ctx, carlaWords...)
		if err != nil {
			return err
		}
		if messages[2]["edited_at"] == nil || messages[3]["deleted_at"] == nil || len(messages[1].List("reactions")) != 1 {
			return errors.New("the edit, the deletion or the reaction is not shown")
		}
		for _, m := range []mesh.Object{messages[4], sms[1]} {
			if err := s.attachmentIsThere(ctx, m); err != nil {
				return err
			}
		}
		c, err := s.api.Call(ctx, "GET", "/v1/conversations/"+id, nil, 200)
		if err != nil {
			return err
		}
		s.annaContact = c.Text("contact_id")
		if c, err = s.api.Call(ctx, "GET", "/v1/conversations/"+sms[0].Text("conversation_id"), nil, 200); err != nil {
			return err
		}
		s.carlaContact = c.Text("contact_id")
		for _, m := range messages {
			text := m.Text("text")
			switch {
			case m["deleted_at"] != nil:
				text = "(deleted)"
			case m["edited_at"] != nil:
				text += "  (edited)"
			}
			say("%s  %s", m.Text("sent_at"), text)
		}
		say("in the order of the provider, each once, edited, deleted, with its reaction and its file")
		return nil
	})
}

func (s *story) attachmentIsThere(ctx context.Context, m mesh.Object) error {
	attachments := m.List("attachments")
	if len(attachments) != 1 {
		return fmt.Errorf("%d attachments where one was sent", len(attachments))
	}
	status, body, err := s.api.Raw(ctx, "GET", "/v1/attachments/"+attachments[0].Text("id")+"/content", nil)
	if err != nil {
		return err
	}
	if status != 200 || !(strings.Contains(string(body), photo) || strings.Contains(string(body), "nur Luft")) {
		return fmt.Errorf("the attachment answers %d with %d bytes", status, len(body))
	}
	return nil
}

func (s *story) reply(ctx context.Context) error {
	slackConversation, _, err := s.conversation(ctx, annaWords[0], annaWords[1], annaCorrected, "", annaWords[4])
	if err != nil {
		return err
	}
	smsConversation, _, err := s.conversation(ctx, carlaWords...)
	if err != nil {
		return err
	}
	ids := map[string]string{}
	for conversation, text := range map[string]string{slackConversation: replyToAnna, smsConversation: replyToCarla} {
		m, err := s.api.Call(ctx, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": text}, http.StatusCreated)
		if err != nil {
			return err
		}
		ids[text] = m.Text("id")
	}
	if err := mesh.Eventually(ctx, 15*time.Second, func() error {
		if len(s.slack.Posts()) == 0 || len(s.twilio.Posts()) == 0 {
			return errors.New("the providers have not received the replies")
		}
		return nil
	}); err != nil {
		return err
	}
	post, sms := s.slack.Posts()[0], s.twilio.Posts()[0]
	callback, err := url.Parse(sms.StatusCallback)
	if err != nil {
		return err
	}
	// Receipts in the wrong order, and our own echo as a message.
	echoes := []delivery{
		s.slackDelivery("Ev20", standin.SlackEcho(slackApp, "im", post)),
		s.slackDelivery("Ev21", standin.SlackMetadataPosted(slackApp, post)),
		s.twilioDelivery("?"+callback.RawQuery, standin.TwilioStatus(twilioSID, sms, "delivered", "")),
		s.twilioDelivery("?"+callback.RawQuery, standin.TwilioStatus(twilioSID, sms, "sent", "")),
	}
	if err := s.deliver(ctx, echoes); err != nil {
		return err
	}
	s.sent = append(s.sent, echoes...)
	if err := mesh.Eventually(ctx, 15*time.Second, func() error {
		for text, want := range map[string]string{replyToAnna: "sent", replyToCarla: "delivered"} {
			m, err := s.api.Call(ctx, "GET", "/v1/messages/"+ids[text], nil, 200)
			if err != nil {
				return err
			}
			if m.Text("status") != want {
				return fmt.Errorf("a reply is %q, not %q", m.Text("status"), want)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if posts := s.slack.Posts(); len(posts) != 1 || posts[0].Text != replyToAnna || posts[0].Channel != "D0ANNA" {
		return fmt.Errorf("Slack received %+v", posts)
	}
	if posts := s.twilio.Posts(); len(posts) != 1 || posts[0].Body != replyToCarla || posts[0].To != carlaNumber {
		return fmt.Errorf("Twilio received %+v", posts)
	}
	say("Slack received once, in %s:   %q", post.Channel, post.Text)
	say("Twilio received once, for %s: %q; its receipts came in the wrong order: delivered", sms.To, sms.Body)
	return nil
}

// others is what the API shows of everybody who was not erased, byte for byte.
func (s *story) others(ctx context.Context) (map[string]string, error) {
	list, err := s.api.Call(ctx, "GET", "/v1/conversations", nil, 200)
	if err != nil {
		return nil, err
	}
	shown := map[string]string{}
	for _, c := range list.List("items") {
		status, raw, err := s.api.Raw(ctx, "GET", "/v1/conversations/"+c.Text("id")+"/messages", nil)
		if err != nil || status != 200 {
			return nil, fmt.Errorf("messages: %d %w", status, err)
		}
		shown[c.Text("id")] = string(raw)
	}
	return shown, nil
}

func (s *story) erase(ctx context.Context) error {
	var requests []string
	for _, contact := range []string{s.annaContact, s.carlaContact} {
		r, err := s.api.Call(ctx, "POST", "/v1/privacy/requests", mesh.Object{"type": "erasure", "contact_id": contact}, http.StatusCreated)
		if err != nil {
			return err
		}
		requests = append(requests, r.Text("id"))
	}
	for i, id := range requests {
		step := ""
		if err := mesh.Eventually(ctx, 60*time.Second, func() error {
			r, err := s.api.Call(ctx, "GET", "/v1/privacy/requests/"+id, nil, 200)
			if err != nil {
				return err
			}
			if i == 0 && r.Text("step") != step {
				step = r.Text("step")
				say("%s  %s", time.Now().Format("15:04:05"), step)
			}
			if r.Text("status") != "completed" {
				return fmt.Errorf("the request is %s (%s) %s", r.Text("status"), r.Text("step"), r.Text("failed"))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, contact := range []string{s.annaContact, s.carlaContact} {
		if _, err := s.api.Call(ctx, "GET", "/v1/contacts/"+contact, nil, http.StatusGone); err != nil {
			return err
		}
	}
	for _, words := range []string{"Annabelle", "Montefiore"} {
		found, err := s.api.Call(ctx, "GET", "/v1/messages/search?q="+url.QueryEscape(words), nil, 200)
		if err != nil {
			return err
		}
		if n := len(found.List("items")); n != 0 {
			return fmt.Errorf("search still finds %d messages", n)
		}
	}
	var err error
	if s.before, err = s.others(ctx); err != nil {
		return err
	}
	if len(s.before) != 1 {
		return fmt.Errorf("%d conversations are left, not Ben's alone", len(s.before))
	}
	say("Annabelle (Slack) and Carla (SMS) are erased: their contacts are 410, their conversations and words are gone; Ben's are there")
	status, file, err := s.api.Raw(ctx, "GET", "/v1/privacy/requests/"+requests[0]+"/certificate", nil)
	if err != nil || status != 200 {
		return fmt.Errorf("certificate: %d %w", status, err)
	}
	s.certificate = filepath.Join(s.data, "certificate.json")
	return os.WriteFile(s.certificate, file, 0o600)
}

func (s *story) verify(ctx context.Context) error {
	status, key, err := s.api.Raw(ctx, "GET", "/v1/privacy/certificate-key", nil)
	if err != nil || status != 200 {
		return fmt.Errorf("public key: %d %w", status, err)
	}
	keyFile := filepath.Join(s.data, "certificate-key.pem")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		return err
	}
	if out, err := s.mesh.Tributary(ctx, "verify-certificate", "--key", keyFile, s.certificate); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	file, err := os.ReadFile(s.certificate)
	if err != nil {
		return err
	}
	var signed struct {
		Certificate struct {
			Holders []struct {
				Name    string           `json:"name"`
				Deleted map[string]int64 `json:"deleted"`
			} `json:"holders"`
			BackupsUnreadableFrom time.Time `json:"backups_unreadable_from"`
		} `json:"certificate"`
	}
	if err := json.Unmarshal(file, &signed); err != nil {
		return err
	}
	for _, h := range signed.Certificate.Holders {
		say("%s deleted %v", h.Name, h.Deleted)
	}
	say("backups open nothing of her from %s on", signed.Certificate.BackupsUnreadableFrom.Format(time.RFC3339))
	for i := range 20 {
		flipped := append([]byte{}, file...)
		flipped[rand.IntN(len(flipped))] ^= 1 << rand.IntN(8)
		name := filepath.Join(s.data, fmt.Sprintf("flipped-%d.json", i))
		if err := os.WriteFile(name, flipped, 0o600); err != nil {
			return err
		}
		if _, err := s.mesh.Tributary(ctx, "verify-certificate", "--key", keyFile, name); err == nil {
			return errors.New("a certificate with a flipped bit was accepted")
		}
	}
	say("it checks with the public key alone; 20 copies with one flipped bit each were refused")
	return nil
}

func (s *story) replay(ctx context.Context) error {
	again := append([]delivery{}, s.sent...)
	rand.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
	if err := s.deliver(ctx, again); err != nil {
		return err
	}
	if err := s.mesh.Drained(ctx); err != nil {
		return err
	}
	now, err := s.others(ctx)
	if err != nil {
		return err
	}
	if fmt.Sprint(now) != fmt.Sprint(s.before) {
		return fmt.Errorf("the replay changed what the API shows:\n%v\n%v", s.before, now)
	}
	if len(s.slack.Posts()) != 1 || len(s.twilio.Posts()) != 1 {
		return errors.New("the replay sent a message again")
	}
	say("%d old webhooks again, in another order: the API's answers are byte for byte the same", len(again))
	fresh := fmt.Sprintf("%d.000050", time.Now().Unix()) // what she wrote before the erasure would be dropped
	if err := s.deliver(ctx, []delivery{s.slackDelivery("Ev50", standin.SlackMessage("D0ANNA", "im", annaUser, fresh, "", "Ich bin es noch einmal"))}); err != nil {
		return err
	}
	return mesh.Eventually(ctx, 15*time.Second, func() error {
		id, _, err := s.conversation(ctx, "Ich bin es noch einmal")
		if err != nil {
			return err
		}
		c, err := s.api.Call(ctx, "GET", "/v1/conversations/"+id, nil, 200)
		if err != nil {
			return err
		}
		if c.Text("contact_id") == s.annaContact {
			return errors.New("who writes again after an erasure must be a new person")
		}
		say("she writes something new: a new person, with nothing of the old")
		return nil
	})
}

func (s *story) sweep(ctx context.Context) error {
	return mesh.Eventually(ctx, 30*time.Second, func() error {
		n, err := s.mesh.Metric(ctx, "tributary_registry_swept_subjects_total")
		if err != nil {
			return err
		}
		if n < 1 {
			return errors.New("nothing was swept")
		}
		say("%.0f subjects that the replay had made, and that no holder stores anything for, are destroyed", n)
		return nil
	})
}

func (s *story) search(ctx context.Context) error {
	if err := s.mesh.Stop(ctx); err != nil {
		return err
	}
	needles := append([]string{annaCorrected, annaFile, benWords, annaInGroup, replyToAnna, replyToCarla, photo,
		"Annabelle Xylander", "Montefiore", "Benedikt Oberhuber", carlaNumber, "xoxb-demo-token", twilioToken, slackSecret, s.api.Key}, annaWords...)
	scanner := canary.New(append(needles, carlaWords...)...)
	var total canary.Scanned
	for _, root := range s.mesh.Written() {
		hits, scanned, err := scanner.Tree(root)
		if err != nil {
			return err
		}
		for _, h := range hits {
			if filepath.Base(h.File) == "api-key" {
				continue // where the owner's key is meant to lie
			}
			return fmt.Errorf("found: %s", h)
		}
		total.Files += scanned.Files
		total.Bytes += scanned.Bytes
	}
	say("%d files, %.1f MB of topics, databases, spools, objects, logs and traces: no word, name, number or secret, in any encoding", total.Files, float64(total.Bytes)/1e6)
	return nil
}
