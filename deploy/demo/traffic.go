package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// ts is a Slack time stamp n seconds into the story, which began an hour ago for Slack.
func (s *story) ts(n int) string {
	return fmt.Sprintf("%d.%06d", s.began.Add(-time.Hour).Unix()+int64(n), n)
}

func (s *story) traffic(ctx context.Context) error {
	im := func(n int, text string) map[string]any {
		return standin.SlackMessage("D0ANNA", "im", s.annaUser, s.ts(n), "", text)
	}
	withFile := im(5, s.anna[4])
	withFile["subtype"] = "file_share"
	withFile["files"] = []any{map[string]any{
		"id": "F0ANNA", "name": s.annaFile, "mimetype": "text/plain", "size": len(s.fileContent),
		"url_private": s.slack.URL + "/files/anna.txt", "url_private_download": s.slack.URL + "/files/anna.txt",
	}}
	slack := []delivery{
		s.slackDelivery("Ev01", im(1, s.anna[0])),
		s.slackDelivery("Ev02", im(2, s.anna[1])),
		s.slackDelivery("Ev03", im(3, s.anna[2])),
		s.slackDelivery("Ev04", standin.SlackEdit("D0ANNA", "im", s.annaUser, s.ts(3), "", s.ts(13), s.anna[2], s.annaCorrected)),
		s.slackDelivery("Ev05", im(4, s.anna[3])),
		s.slackDelivery("Ev06", standin.SlackDeletion("D0ANNA", "im", s.annaUser, s.ts(4), s.ts(14))),
		s.slackDelivery("Ev07", withFile),
		s.slackDelivery("Ev08", standin.SlackReaction("D0ANNA", s.annaUser, s.ts(2), s.ts(15), "wave", false)),
		s.slackDelivery("Ev09", standin.SlackMessage("C0SHOP", "channel", s.benUser, s.ts(20), "", s.ben)),
		s.slackDelivery("Ev10", standin.SlackMessage("C0SHOP", "channel", s.annaUser, s.ts(21), s.ts(20), s.annaInGroup)),
	}
	sms := []delivery{
		s.twilioDelivery("", standin.TwilioInbound(twilioSID, "SM"+strings.Repeat("a", 32), s.carlaNumber, shopNumber, s.carla[0])),
		s.twilioDelivery("", standin.TwilioInbound(twilioSID, "SM"+strings.Repeat("b", 32), s.carlaNumber, shopNumber, s.carla[1], s.twilio.URL+"/media/kleid.jpg")),
	}
	s.sent = slices.Concat(slack, sms)
	early := []delivery{slack[3], slack[5], slack[7]} // edit, deletion and reaction, before what they are about
	rand.Shuffle(len(slack), func(i, j int) { slack[i], slack[j] = slack[j], slack[i] })
	again := slices.Clone(slack[:5])
	for i, d := range again {
		sign := d.sign
		again[i].sign = func(b []byte) http.Header {
			h := sign(b)
			h.Set("X-Slack-Retry-Num", "1")
			h.Set("X-Slack-Retry-Reason", "http_timeout")
			return h
		}
	}
	// SMS carries no time of the provider: its two come one after the other.
	for _, group := range []struct {
		atOnce int
		all    []delivery
	}{{3, early}, {4, slack}, {1, sms}, {5, again}, {1, sms[:1]}} {
		if err := s.deliver(ctx, group.atOnce, group.all); err != nil {
			return err
		}
	}
	say("%d webhooks answered 2xx: %d events, nearly all of them more than once, in no order", len(early)+len(slack)+len(sms)+len(again)+1, len(s.sent))

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
	list, err := s.api.Call(ctx, "GET", "/v1/conversations", nil, http.StatusOK)
	if err != nil {
		return "", nil, err
	}
	var seen []string
	for _, c := range list.List("items") {
		page, err := s.api.Call(ctx, "GET", "/v1/conversations/"+c.Text("id")+"/messages?order=asc", nil, http.StatusOK)
		if err != nil {
			return "", nil, err
		}
		messages := page.List("items")
		texts := make([]string, len(messages))
		for i, m := range messages {
			texts[i] = m.Text("text")
		}
		if slices.Equal(texts, want) {
			return c.Text("id"), messages, nil
		}
		seen = append(seen, fmt.Sprintf("%q", texts))
	}
	return "", nil, fmt.Errorf("no conversation holds %q; there are: %s", want, strings.Join(seen, "; "))
}

func (s *story) annasConversation(ctx context.Context) (id string, messages []mesh.Object, err error) {
	return s.conversation(ctx, s.anna[0], s.anna[1], s.annaCorrected, "", s.anna[4])
}

func (s *story) read(ctx context.Context) error {
	var messages []mesh.Object
	if err := mesh.Eventually(ctx, 15*time.Second, func() error {
		anna, shown, err := s.annasConversation(ctx)
		if err != nil {
			return err
		}
		messages = shown
		if _, _, err := s.conversation(ctx, s.ben, s.annaInGroup); err != nil {
			return err
		}
		carla, sms, err := s.conversation(ctx, s.carla...)
		if err != nil {
			return err
		}
		if messages[2]["edited_at"] == nil || messages[3]["deleted_at"] == nil || len(messages[1].List("reactions")) != 1 {
			return errors.New("the edit, the deletion or the reaction is not shown")
		}
		if s.annaContact, err = s.contactOf(ctx, anna); err != nil {
			return err
		}
		if s.carlaContact, err = s.contactOf(ctx, carla); err != nil {
			return err
		}
		return errors.Join(s.attachmentIs(ctx, messages[4], s.fileContent), s.attachmentIs(ctx, sms[1], s.picture))
	}); err != nil {
		return err
	}
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
}

func (s *story) contactOf(ctx context.Context, conversation string) (string, error) {
	c, err := s.api.Call(ctx, "GET", "/v1/conversations/"+conversation, nil, http.StatusOK)
	return c.Text("contact_id"), err
}

func (s *story) attachmentIs(ctx context.Context, m mesh.Object, content string) error {
	attachments := m.List("attachments")
	if len(attachments) != 1 {
		return fmt.Errorf("%d attachments where one was sent", len(attachments))
	}
	status, body, err := s.api.Raw(ctx, "GET", "/v1/attachments/"+attachments[0].Text("id")+"/content", nil)
	if err == nil && (status != http.StatusOK || !strings.HasSuffix(string(body), content)) {
		err = fmt.Errorf("the attachment answers %d with %d bytes", status, len(body))
	}
	return err
}

func (s *story) reply(ctx context.Context) error {
	anna, _, err := s.annasConversation(ctx)
	if err != nil {
		return err
	}
	carla, _, err := s.conversation(ctx, s.carla...)
	if err != nil {
		return err
	}
	for conversation, text := range map[string]string{anna: s.replyToAnna, carla: s.replyToCarla} {
		m, err := s.api.Call(ctx, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": text}, http.StatusCreated)
		if err != nil {
			return err
		}
		s.replies[text] = m.Text("id")
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
	// Our own echo as a message, and receipts in the wrong order.
	echoes := []delivery{
		s.slackDelivery("Ev20", standin.SlackEcho(slackApp, "im", post)),
		s.slackDelivery("Ev21", standin.SlackMetadataPosted(slackApp, post)),
		s.twilioDelivery("?"+callback.RawQuery, standin.TwilioStatus(twilioSID, sms, "delivered", "")),
		s.twilioDelivery("?"+callback.RawQuery, standin.TwilioStatus(twilioSID, sms, "sent", "")),
	}
	if err := s.deliver(ctx, 1, echoes); err != nil {
		return err
	}
	s.sent = append(s.sent, echoes...)
	if err := mesh.Eventually(ctx, 15*time.Second, func() error {
		for text, want := range map[string]string{s.replyToAnna: "sent", s.replyToCarla: "delivered"} {
			m, err := s.api.Call(ctx, "GET", "/v1/messages/"+s.replies[text], nil, http.StatusOK)
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
	if err := s.sentOnce(); err != nil {
		return err
	}
	if post.Text != s.replyToAnna || post.Channel != "D0ANNA" || sms.Body != s.replyToCarla || sms.To != s.carlaNumber {
		return fmt.Errorf("the providers received %+v and %+v", post, sms)
	}
	say("Slack received once, in %s:   %q", post.Channel, post.Text)
	say("Twilio received once, for %s: %q; its receipts came in the wrong order: delivered", sms.To, sms.Body)
	return nil
}

// restart keeps a backup for later.
func (s *story) restart(ctx context.Context) error {
	if err := s.mesh.Drained(ctx); err != nil {
		return err
	}
	before, err := s.shown(ctx)
	if err != nil {
		return err
	}
	if err := s.mesh.Stop(ctx); err != nil {
		return err
	}
	if s.restore, err = s.mesh.Backup(); err != nil {
		return err
	}
	if err := s.mesh.Start(ctx); err != nil {
		return err
	}
	if err := s.wantShown(ctx, before); err != nil {
		return err
	}
	say("all of it is there again, byte for byte; a backup of the conversations is kept")
	return nil
}
