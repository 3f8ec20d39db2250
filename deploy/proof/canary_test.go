package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/seal/canary"
)

// TestCanary plants personal data and secrets wherever a provider, a member or a stranger can bring them
// in, and looks for them in every file that the mesh writes: topics, databases, spool, objects, logs at
// their most talkative, traces. While it runs, after it was killed, and after it was stopped.
func TestCanary(t *testing.T) {
	const (
		slackUser, otherUser = "U0KANARIENVOGEL", "U0ZEISIGVOGEL"
		slackName, otherName = "Wilhelmine Kanarienvogel", "Ottokar Zeisigvogel"
		phone                = "+41791230987"
		fileName, fileText   = "lohnausweis-wilhelmine.txt", "Der Lohn von Wilhelmine beträgt 7'654 Franken"
		pictureText          = "JPEG-of-Wilhelmine-at-the-lake"
		ours, oursName       = "Vertraulicher Inhalt einer Beilage", "offerte-kanarienvogel.txt"
	)
	words := map[string]string{
		"slack": "Ich heisse Wilhelmine und wohne an der Vogelgasse 5", "before": "mein Passwort war hunter2-vogel",
		"after": "ich habe nichts geschrieben, sagt Wilhelmine", "deleted": "das war nicht für Sie bestimmt",
		"group": "in der Gruppe meldet sich Ottokar zu Wort", "sms": "SMS von Wilhelmine über ihre Gesundheit",
		"forged": "gefälscht im Namen von Wilhelmine", "stranger": "an ein Konto das niemand kennt",
		"malformed": "unlesbar aber persönlich", "reply": "Liebe Wilhelmine, Ihre Anfrage ist beantwortet", "note": "Notiz: Wilhelmine ruft zurück",
		"text": "Guten Tag, Ihre Nummer ist notiert", "search": "suche nach Wilhelmine Kanarienvogel",
		"spooled": "geschrieben während die Maschine stillstand",
	}
	needles := []string{slackUser, otherUser, slackName, otherName, phone, phone[1:], fileName, fileText, pictureText, ours, oursName, secret, authToken, botToken}
	for _, text := range words {
		needles = append(needles, text)
	}
	scanner, control := canary.New(needles...), canary.New(number)
	w := newWorldOf(t, nil, providers{
		users: map[string]string{slackUser: slackName, otherUser: otherName},
		files: map[string][]byte{"lohn.txt": []byte(fileText)},
		media: map[string]standin.Media{"see.jpg": {ContentType: "image/jpeg", Data: append([]byte{0xff, 0xd8, 0xff, 0xe0}, pictureText...)}},
	})
	clean := func(when string) {
		t.Helper()
		for _, root := range w.Written() {
			hits, scanned, err := scanner.Tree(root)
			if err != nil || len(hits) > 0 || scanned.Files < 20 {
				t.Fatalf("%s: %d files, %d hits: %v %v", when, scanned.Files, len(hits), hits, err)
			}
			if found, _, err := control.Tree(root); err != nil || len(found) == 0 {
				t.Fatalf("%s: not even what is no secret is found: %v", when, err)
			}
			t.Logf("%s: nothing in %d files of %d KiB", when, scanned.Files, scanned.Bytes>>10)
		}
	}

	base := time.Now()
	im := func(n int, text string) map[string]any {
		return standin.SlackMessage("D0001", "im", slackUser, slackTime(base, n), "", text)
	}
	file := im(5, words["slack"])
	file["subtype"], file["files"] = "file_share", []any{map[string]any{
		"id": "F0001", "name": fileName, "mimetype": "text/plain", "size": len(fileText), "url_private_download": w.slack.URL + "/files/lohn.txt",
	}}
	sms := func(sid, text string, pictures ...string) error {
		return w.deliverSMS(t.Context(), "", standin.TwilioInbound(accountSID, "SM"+strings.Repeat(sid, 32), phone, number, text, pictures...))
	}
	if err := errors.Join(
		w.deliver(t.Context(), "Ev1", im(1, words["slack"])),
		w.deliver(t.Context(), "Ev2", im(2, words["before"])),
		w.deliver(t.Context(), "Ev3", standin.SlackEdit("D0001", "im", slackUser, slackTime(base, 2), "", slackTime(base, 3), words["before"], words["after"])),
		w.deliver(t.Context(), "Ev4", im(4, words["deleted"])),
		w.deliver(t.Context(), "Ev5", standin.SlackDeletion("D0001", "im", slackUser, slackTime(base, 4), slackTime(base, 6))),
		w.deliver(t.Context(), "Ev6", file),
		w.deliver(t.Context(), "Ev7", standin.SlackReaction("D0001", slackUser, slackTime(base, 1), slackTime(base, 7), "wave", false)),
		w.deliver(t.Context(), "Ev8", standin.SlackMessage("C0001", "channel", otherUser, slackTime(base, 8), "", words["group"])),
		w.deliver(t.Context(), "Ev9", standin.SlackMessage("C0001", "channel", slackUser, slackTime(base, 9), slackTime(base, 8), "<@"+otherUser+"> "+words["slack"])),
		sms("d", words["sms"], w.twilio.URL+"/media/see.jpg"),
	); err != nil {
		t.Fatal(err)
	}

	// What is refused leaves no more behind than what is taken.
	refused := func(path string, header http.Header, body []byte, want int) {
		t.Helper()
		if status, err := w.api.Webhook(t.Context(), path, header, body); err != nil || status != want {
			t.Fatalf("%s answered %d, want %d: %v", path, status, want, err)
		}
	}
	forged := standin.SlackEvent(team, app, "Ev10", time.Now(), im(10, words["forged"]))
	refused("/webhooks/slack/proof", standin.SlackHeader("another-signing-secret", forged, time.Now()), forged, 401)
	malformed := []byte(`{"text":"` + words["malformed"] + `"`)
	refused("/webhooks/slack/proof", standin.SlackHeader(secret, malformed, time.Now()), malformed, 400)
	stranger := standin.SlackEvent("T0NOBODY", app, "Ev11", time.Now(), im(11, words["stranger"]))
	refused("/webhooks/slack/proof", standin.SlackHeader(secret, stranger, time.Now()), stranger, 200)
	refused("/webhooks/slack/"+url.PathEscape(words["stranger"]), standin.SlackHeader(secret, stranger, time.Now()), stranger, 404)
	for _, path := range []string{
		"/v1/messages/search?q=" + url.QueryEscape(words["search"]), "/v1/contacts?identity_kind=phone&identity=" + url.QueryEscape(phone),
		"/v1/contacts?identity_kind=" + url.QueryEscape(slackName), "/v1/conversations/" + url.PathEscape(slackName), "/v1/nothing/" + url.PathEscape(phone),
	} {
		if status, body, err := w.api.Raw(t.Context(), "GET", path, nil); err != nil || status >= 500 {
			t.Fatalf("%s answered %d: %s %v", path, status, body, err)
		}
	}

	// What members write, with a file; and what they get wrong.
	byChannel := map[string]string{}
	within(t, 20*time.Second, func() error {
		conversations, err := w.all(t.Context(), "/v1/conversations")
		if err != nil {
			return err
		}
		for _, c := range conversations {
			messages, err := w.all(t.Context(), "/v1/conversations/"+c.Text("id")+"/messages")
			if err != nil {
				return err
			}
			for _, m := range messages {
				for _, a := range m.List("attachments") {
					status, content, err := w.api.Raw(t.Context(), "GET", "/v1/attachments/"+a.Text("id")+"/content", nil)
					if err != nil || status != 200 || !strings.Contains(string(content)+"|", map[string]string{"slack": fileText, "sms": pictureText}[c.Text("channel")]) {
						return fmt.Errorf("the attachment answers %d with %d bytes: %w", status, len(content), err)
					}
					byChannel[c.Text("channel")] = c.Text("id")
				}
			}
		}
		if len(byChannel) != 2 {
			return fmt.Errorf("only %v have what was sent", byChannel)
		}
		return nil
	})
	uploaded := w.upload(t, byChannel["slack"], oursName, ours)
	replied := w.must(t, "POST", "/v1/conversations/"+byChannel["slack"]+"/messages", mesh.Object{"text": words["reply"], "attachments": []string{uploaded}}, 201)
	w.must(t, "POST", "/v1/conversations/"+byChannel["slack"]+"/messages", mesh.Object{"text": words["note"], "type": "note"}, 201)
	w.must(t, "POST", "/v1/conversations/"+byChannel["slack"]+"/messages", mesh.Object{"text": words["note"], "type": words["note"]}, 422)
	w.must(t, "POST", "/v1/conversations/"+byChannel["sms"]+"/messages", mesh.Object{"text": words["text"]}, 201)
	within(t, 20*time.Second, func() error {
		if len(w.slack.Posts()) < 2 || len(w.twilio.Posts()) < 1 {
			m, _ := w.message(t.Context(), replied.Text("id"))
			return fmt.Errorf("the providers have %d and %d: %v %+v", len(w.slack.Posts()), len(w.twilio.Posts()), m, w.slack.Posts())
		}
		return nil
	})
	post := w.twilio.Posts()[0]
	callback, err := url.Parse(post.StatusCallback)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		w.deliver(t.Context(), "Ev20", standin.SlackEcho(app, "im", w.slack.Posts()[0])),
		w.deliverSMS(t.Context(), "?"+callback.RawQuery, standin.TwilioStatus(accountSID, post, "undelivered", "30003")),
	); err != nil {
		t.Fatal(err)
	}
	clean("running")

	// A machine that stands still for a while sends what it was about to publish to the spool; killed then,
	// it keeps it there.
	var arriving sync.WaitGroup
	enough := make(chan struct{})
	for n := range 16 {
		arriving.Go(func() {
			for i := n; w.deliver(t.Context(), fmt.Sprintf("Ev3.%d", i), im(30+i, words["spooled"])) == nil; i += 16 {
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	within(t, 20*time.Second, func() error {
		resume, err := w.Pause()
		if err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond)
		resume()
		return mesh.Eventually(t.Context(), 500*time.Millisecond, func() error {
			if spooled, err := filepath.Glob(filepath.Join(w.data, "slack", "spool", "*.segment")); err != nil || len(spooled) == 0 {
				return fmt.Errorf("nothing was spooled: %w", err)
			}
			return nil
		})
	})
	w.Kill()
	clean("killed")
	close(enough)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	arriving.Wait()
	within(t, 20*time.Second, func() error { return w.Drained(t.Context()) })
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	clean("stopped")
}

// upload brings a member's file in and gives the attachment's id.
func (w *world) upload(t *testing.T, conversation, name, content string) string {
	t.Helper()
	o, err := w.api.Upload(t.Context(), "/v1/conversations/"+conversation+"/attachments", name, "text/plain", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return o.Text("id")
}
