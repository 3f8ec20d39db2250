package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/seal/canary"
)

// TestErasure holds the mesh to what it promises those whose data it has, step by step. Each line is by
// itself, on a mesh of its own.
//
// Two more lines are proven elsewhere: an old dump of the conversation database beside the living registry by
// the demo and the scenario erasure, and the residue in every file by that scenario and TestCanary.
func TestErasure(t *testing.T) {
	for _, line := range []struct {
		step string
		test func(*testing.T)
	}{
		{"seal", provesSealed},
		{"bind", provesBound},
		{"freeze", provesFrozen},
		{"cache_bound", provesCachesBounded},
		{"acks", provesNoHolderLeftOut},
		{"late_events", provesLateEventsDropped},
		{"group", provesOneOfTwoErased},
		{"destroy", provesDestroyed},
		{"registry_dump", provesOldDumpsUseless},
		{"turn", provesTurnsLoseNobody},
		{"certificate", provesCertificates},
		{"isolation", provesIsolation},
	} {
		t.Run(line.step, func(t *testing.T) {
			t.Parallel()
			line.test(t)
		})
	}
}

func newSwiftWorld(t *testing.T, settings map[string]string) *world {
	t.Helper()
	all := maps.Clone(swift)
	maps.Copy(all, settings)
	return newWorld(t, all)
}

// check wants all to be well.
func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// seal: a canary through every field that a provider or a member can bring, and no record of any topic has it.
func provesSealed(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, carla := w.slackGuest(), w.phoneGuest()
	word := func(g *guest) string { s := invented(); g.keep(s); return s }
	file, picture, city, profile := word(anna)+".txt", []byte("JPEG of "+word(carla)), word(carla), word(carla)
	w.slack.Keep("file", []byte("a file with "+word(anna)))
	w.twilio.Keep("picture", standin.Media{ContentType: "image/jpeg", Data: append([]byte{0xff, 0xd8, 0xff, 0xe0}, picture...)})

	written := anna.words()
	message := standin.SlackMessage(anna.room, "im", anna.user, anna.stamp(), "", written)
	message["subtype"], message["files"] = "file_share", []any{map[string]any{
		"id": "F0" + strings.ToUpper(word(anna)), "name": file, "title": word(anna), "mimetype": "text/plain", "size": 30,
		"url_private_download": w.slack.URL + "/files/file?" + word(anna),
	}}
	message["metadata"] = map[string]any{"event_type": "form", "event_payload": map[string]any{"answer": word(anna)}}
	message["blocks"] = []any{map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": written + " " + word(anna)}}}
	message["user_profile"] = map[string]any{"display_name": word(anna), "real_name": word(anna)}
	message["username"], message["client_msg_id"] = word(anna), "x-"+word(anna)
	ts := message["ts"].(string)
	change := map[string]any{"type": "user_change", "event_ts": anna.stamp(), "user": map[string]any{"id": anna.user, "team_id": team,
		"profile": map[string]any{"real_name": word(anna), "email": word(anna) + "@example.com", "phone": "+4178" + "5550199", "title": word(anna)}}}
	form := standin.TwilioInbound(accountSID, carla.sid(), carla.phone, number, carla.words(), w.twilio.URL+"/media/picture?"+word(carla))
	for name, value := range map[string]string{"FromCity": city, "FromZip": word(carla), "FromState": word(carla), "ProfileName": profile, "WaId": carla.phone[1:], "X-Unknown": word(carla)} {
		form.Set(name, value)
	}
	check(t, anna.tell(ctx, message), anna.tell(ctx, standin.SlackEdit(anna.room, "im", anna.user, ts, "", anna.stamp(), written, anna.words())),
		anna.tell(ctx, standin.SlackReaction(anna.room, anna.user, ts, anna.stamp(), "wave_"+word(anna), false)), anna.tell(ctx, change),
		carla.form(ctx, "", form))
	said := anna.words()
	check(t, anna.says(ctx, said))
	conversation, _, err := w.arrived(ctx, said)
	check(t, err)
	uploaded, err := w.api.Upload(ctx, "/v1/conversations/"+conversation+"/attachments", word(anna)+".txt", "text/plain", []byte(word(anna)))
	check(t, err)
	w.must(t, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": anna.words(), "attachments": []string{uploaded.Text("id")}}, 201)
	w.must(t, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": anna.words(), "type": "note"}, 201)
	within(t, 20*time.Second, func() error {
		if n := len(w.slack.Posts()); n != 2 {
			return fmt.Errorf("Slack has %d of 2", n)
		}
		return nil
	})
	// What nobody can handle is dead-lettered as it came: sealed.
	check(t, w.Drained(ctx), w.refuse(ctx, true))
	check(t, anna.says(ctx, anna.words()))
	within(t, 20*time.Second, func() error {
		n, err := w.Metric(ctx, "tributary_dead_letters_total", `topic="inbound.slack"`)
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing was dead-lettered")
		}
		return err
	})
	check(t, w.refuse(ctx, false))

	all, err := records(ctx, w.Mesh)
	check(t, err)
	needles := slices.Concat(anna.needles, carla.needles, []string{secret, authToken, botToken})
	scanner, control := canary.New(needles...), canary.New(w.sms)
	topics, hits := map[string]int{}, 0
	for _, r := range all {
		topics[r.Topic]++
		whole := []byte(r.Topic + "\x00" + r.Key + "\x00" + string(r.Value))
		for _, h := range r.Headers {
			whole = append(append(whole, h.Key+"\x00"...), h.Value...)
		}
		for _, hit := range scanner.Bytes(fmt.Sprintf("%s/%d at %d", r.Topic, r.Partition, r.Offset), whole) {
			t.Errorf("found: %s", hit)
		}
		hits += len(control.Bytes("", whole))
	}
	for _, topic := range []string{"inbound.slack", "inbound.sms", "outbound.slack", "conversations", "contacts", "connections", "apps", "access", "dead.inbound.slack"} {
		if topics[topic] == 0 {
			t.Errorf("nothing was read of %s", topic)
		}
	}
	if hits == 0 {
		t.Error("not even what is no secret is found")
	}
	t.Logf("%d needles in %v", len(needles), topics)
}

// freeze: from the request on, within TTL and margin, whoever asks for anything of the person by its id is
// answered 410, and lists, search and the stream leave the person out; a bystander is there all the time.
func provesFrozen(t *testing.T) {
	const ttl, margin = 2 * time.Second, 4 * time.Second
	w := newSwiftWorld(t, map[string]string{"TRIBUTARY_CACHE_TTL": ttl.String(), "TRIBUTARY_PRIVACY_CACHE_MARGIN": margin.String()})
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	w.slack.Keep("file", []byte("anna's file"))
	words, bens := anna.words(), ben.words()
	message := standin.SlackMessage(anna.room, "im", anna.user, anna.stamp(), "", words)
	message["subtype"], message["files"] = "file_share", []any{map[string]any{
		"id": "F0001", "name": "file.txt", "mimetype": "text/plain", "size": 11, "url_private_download": w.slack.URL + "/files/file"}}
	check(t, anna.tell(ctx, message), ben.says(ctx, bens))
	conversation, contact, err := w.arrived(ctx, words)
	check(t, err)
	_, bystander, err := w.arrived(ctx, bens)
	check(t, err)
	var attachment, messageID string
	within(t, 10*time.Second, func() error {
		m := w.must(t, "GET", "/v1/conversations/"+conversation+"/messages", nil, 200).List("items")[0]
		messageID, attachment = m.Text("id"), m.List("attachments")[0].Text("id")
		_, err := w.api.Call(ctx, "GET", "/v1/messages/"+messageID, nil, 200)
		status, _, err2 := w.api.Raw(ctx, "GET", "/v1/attachments/"+attachment+"/content", nil)
		if err == nil && err2 == nil && status != 200 {
			err = fmt.Errorf("the file is answered %d", status)
		}
		return err
	})
	replied := w.must(t, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": "a reply"}, 201).Text("id")

	streaming, stopStream := context.WithCancel(ctx)
	defer stopStream()
	body, err := w.api.Stream(streaming, "/v1/events", http.Header{"Authorization": {"Bearer " + w.api.Key}})
	check(t, err)
	defer body.Close()
	stream := gather(body)

	items := []struct{ method, path string }{
		{"GET", "/v1/contacts/" + contact}, {"GET", "/v1/conversations?contact_id=" + contact}, {"GET", "/v1/conversations/" + conversation}, {"GET", "/v1/conversations/" + conversation + "/messages"},
		{"GET", "/v1/messages/" + messageID}, {"GET", "/v1/messages/" + replied}, {"GET", "/v1/attachments/" + attachment + "/content"},
		{"PATCH", "/v1/conversations/" + conversation}, {"POST", "/v1/conversations/" + conversation + "/read"},
		{"POST", "/v1/conversations/" + conversation + "/messages"}, {"POST", "/v1/messages/" + replied + "/retry"},
	}
	bodies := map[string]any{"PATCH": mesh.Object{"status": "resolved"}}
	lists := []string{"/v1/contacts", "/v1/conversations", "/v1/messages/search?q=" + url.QueryEscape(words),
		"/v1/contacts?identity_kind=slack_user&identity=" + url.QueryEscape(team+":"+anna.user)}
	within(t, 20*time.Second, func() error { // what was before has been told
		if told := stream.since(); !strings.Contains(told, `"status":"sent"`) {
			return fmt.Errorf("the stream has not told that the reply was sent: %s", told)
		}
		return w.Drained(ctx)
	})
	began := time.Now()
	id, err := w.erase(ctx, contact)
	check(t, err)
	var slowest time.Duration
	for _, item := range items {
		body := bodies[item.method]
		if item.method == "POST" {
			body = mesh.Object{}
			if strings.HasSuffix(item.path, "/messages") {
				body = mesh.Object{"text": "another"}
			}
		}
		within(t, ttl+margin, func() error {
			status, answer, err := w.api.Raw(ctx, item.method, item.path, body)
			if err == nil && status != http.StatusGone {
				err = fmt.Errorf("%s %s is answered %d: %s", item.method, item.path, status, answer)
			}
			return err
		})
		slowest = max(slowest, time.Since(began))
	}
	// What is sealed under a key that some cache still has arrives, and is told to nobody.
	stream.mark()
	check(t, anna.says(ctx, anna.words()), ben.says(ctx, ben.words()))
	for _, path := range lists {
		within(t, ttl+margin-time.Since(began), func() error {
			status, answer, err := w.api.Raw(ctx, "GET", path, nil)
			switch {
			case err != nil:
				return err
			case status == http.StatusGone && strings.Contains(path, contact):
			case status != http.StatusOK:
				return fmt.Errorf("%s is answered %d", path, status)
			case strings.Contains(string(answer), contact) || strings.Contains(string(answer), conversation) || strings.Contains(string(answer), words):
				return fmt.Errorf("%s shows the person", path)
			}
			return nil
		})
	}
	if r, err := w.erasure(ctx, id); err != nil || !slices.Contains([]string{"freezing", "closing", "waiting"}, r.Text("step")) {
		t.Fatalf("it was not the freeze that closed the person: %v %v", r, err)
	}
	if took := time.Since(began); took > ttl+margin {
		t.Errorf("closed only after %s", took)
	}
	w.must(t, "GET", "/v1/contacts/"+bystander, nil, 200)
	check(t, w.completed(ctx, id, 20*time.Second))
	for _, path := range []string{"/v1/contacts/" + contact, "/v1/conversations/" + conversation} {
		w.must(t, "GET", path, nil, http.StatusGone)
	}
	w.must(t, "GET", "/v1/messages/"+messageID, nil, http.StatusNotFound)
	// The stream told of the bystander, and of the erased person nothing.
	within(t, 5*time.Second, func() error {
		if !strings.Contains(stream.since(), bystander) {
			return fmt.Errorf("the stream tells nothing of the bystander")
		}
		return nil
	})
	if told := stream.since(); strings.Contains(told, contact) || strings.Contains(told, conversation) {
		t.Errorf("after the freeze the stream told of the person: %s", told)
	}
	t.Logf("every item was 410 within %s", slowest)
}

// certificate: it checks with the public key alone, anywhere; one flipped bit fails.
func provesCertificates(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna := w.slackGuest()
	words := anna.words()
	check(t, anna.says(ctx, words), anna.says(ctx, anna.words()))
	_, contact, err := w.arrived(ctx, words)
	check(t, err)
	within(t, 10*time.Second, func() error { return w.Drained(ctx) })
	id, err := w.erase(ctx, contact)
	check(t, err, w.completed(ctx, id, 20*time.Second))
	file, err := w.certificate(ctx, id)
	check(t, err)
	_, key, err := w.api.Raw(ctx, "GET", "/v1/privacy/certificate-key", nil)
	check(t, err)
	for _, hit := range canary.New(anna.needles...).Bytes("the certificate", file) {
		t.Errorf("found: %s", hit)
	}
	var certificate struct {
		Certificate struct {
			Holders []struct {
				Name    string
				Deleted map[string]int64
			}
			Subjects              []string  `json:"subject_ids"`
			BackupsUnreadableFrom time.Time `json:"backups_unreadable_from"`
			DestroyedAt           time.Time `json:"destroyed_at"`
		}
	}
	check(t, json.Unmarshal(file, &certificate))
	c := certificate.Certificate
	if len(c.Holders) != 1 || c.Holders[0].Deleted["messages"] != 2 || c.Holders[0].Deleted["contacts"] != 1 || len(c.Subjects) != 1 ||
		!c.BackupsUnreadableFrom.After(c.DestroyedAt) {
		t.Errorf("%+v", c)
	}

	w.Kill() // nobody is asked
	check(t, os.RemoveAll(w.data))
	dir := t.TempDir()
	verify := func(certificate, key []byte) error {
		t.Helper()
		paths := [2]string{filepath.Join(dir, "certificate.json"), filepath.Join(dir, "key.pem")}
		check(t, os.WriteFile(paths[0], certificate, 0o600), os.WriteFile(paths[1], key, 0o600))
		out, err := w.Tributary(ctx, "verify-certificate", "--key", paths[1], paths[0])
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	check(t, verify(file, key))
	for at := 0; at < len(file); at += len(file)/16 + 1 {
		flipped := slices.Clone(file)
		flipped[at] ^= 1 << (at % 8)
		if verify(flipped, key) == nil {
			t.Errorf("with a bit of byte %d flipped it is accepted", at)
		}
	}
	public, _, err := ed25519.GenerateKey(nil)
	check(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	check(t, err)
	if verify(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})) == nil {
		t.Error("another key accepts it")
	}
}
