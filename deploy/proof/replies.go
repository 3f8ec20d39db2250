package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// replies are what members write. Each was answered 201, under an id, and has words of its own.
type replies struct {
	mu   sync.Mutex
	byID map[messageID]*reply
	// acknowledged are the words of those of which the provider told, answered 2xx, that it took them.
	acknowledged map[string]bool
}

type reply struct {
	// conversation as the mesh calls it, and the words.
	conversation, words string
	// status that it must end in, at least; "" for any that is true.
	status string
}

func (r *replies) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byID)
}

func (r *replies) get(id messageID) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

func (r *replies) keep(id messageID, p *reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[messageID]*reply{}
	}
	r.byID[id] = p
}

func (r *replies) acknowledge(words string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.acknowledged == nil {
		r.acknowledged = map[string]bool{}
	}
	r.acknowledged[words] = true
}

func (r *replies) wasAcknowledged(words string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acknowledged[words]
}

// replyWords of the n-th reply to a conversation, from 1.
func replyWords(conversation, n int) string { return fmt.Sprintf("reply %d/%d", conversation, n) }

func parseReply(words string) (conversation, n int, err error) {
	_, err = fmt.Sscanf(words, "reply %d/%d", &conversation, &n)
	return conversation, n, err
}

// open has the first message of conversations accepted and shown, and gives the mesh's ids of them.
func (r *run) open(ctx context.Context, conversations []int) (ids map[int]string, err error) {
	first := make([]uint32, len(conversations))
	for i, c := range conversations {
		first[i] = uint32(c * perConversation)
	}
	if err := r.sender.deliverAll(ctx, first); err != nil {
		return nil, err
	}
	return ids, mesh.Eventually(ctx, r.patience(), func() error {
		ids = map[int]string{}
		var all []string
		if err := pages(ctx, r, "/v1/conversations?limit=200", func(c shownConversation) error {
			all = append(all, c.ID)
			return nil
		}); err != nil {
			return err
		}
		for _, id := range all {
			if err := pages(ctx, r, "/v1/conversations/"+id+"/messages?limit=1", func(m shownMessage) error {
				c, _, ok := r.traffic.placeOf(m.ExternalID)
				if ok {
					ids[c] = id
				}
				return nil
			}); err != nil {
				return err
			}
		}
		for _, c := range conversations {
			if ids[c] == "" {
				return fmt.Errorf("conversation %d is not shown", c)
			}
		}
		return nil
	})
}

// post writes a reply until it is answered 201, always under the same Idempotency-Key.
func (r *run) post(ctx context.Context, conversation, words, status string) error {
	for {
		code, raw, err := r.api.RawIdempotent(ctx, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": words}, words)
		switch {
		case err == nil && code == http.StatusCreated:
			var m shownMessage
			if err := json.Unmarshal(raw, &m); err != nil {
				return err
			}
			id, ok := parseID([]byte(m.ID))
			if !ok {
				return errors.New("a reply without an id")
			}
			r.replies.keep(id, &reply{conversation, words, status})
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && code != http.StatusServiceUnavailable && code != http.StatusTooManyRequests && code != http.StatusBadGateway:
			return fmt.Errorf("a reply is answered %d: %s", code, raw)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// answered is how many conversations of each medium have an answer.
const answered = 20

// answer opens some conversations of each medium and answers them. What the providers then tell of the
// answers is part of the traffic.
func (r *run) answer(ctx context.Context) error {
	var conversations []int
	for c := range min(4*answered, r.traffic.conversations) {
		if c%4 > 0 { // of the two threads one
			conversations = append(conversations, c)
		}
	}
	ids, err := r.open(ctx, conversations)
	if err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	texts := 0
	for _, c := range conversations {
		status := "sent"
		if r.traffic.medium(c) == text {
			status = "read"
			texts++
		}
		if err := r.post(ctx, ids[c], replyWords(c, 1), status); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
	if err := mesh.Eventually(ctx, time.Minute, func() error {
		if slack, twilio := len(r.slack.Posts()), len(r.twilio.Posts()); slack < len(conversations)-texts || twilio < texts {
			return fmt.Errorf("of %d answers Slack has %d and Twilio %d", len(conversations), slack, twilio)
		}
		return nil
	}); err != nil {
		return err
	}
	return r.acknowledge()
}

// acknowledge makes the webhooks by which the providers tell of what they took.
func (r *run) acknowledge() error {
	for _, p := range r.slack.Posts() {
		channelType := "channel"
		if strings.HasPrefix(p.Channel, "D") {
			channelType = "im"
		}
		now := time.Now()
		r.receipts = append(r.receipts, slackWebhook("EvEcho"+p.TS, now, standin.SlackEcho(app, channelType, p)),
			slackWebhook("EvPosted"+p.TS, now, standin.SlackMetadataPosted(app, p)))
	}
	for _, p := range r.twilio.Posts() {
		callback, err := url.Parse(p.StatusCallback)
		if err != nil {
			return err
		}
		for _, status := range []string{"queued", "sent", "delivered", "read"} {
			r.receipts = append(r.receipts, r.twilioWebhook("?"+callback.RawQuery, standin.TwilioStatus(accountSID, p, status, "")))
		}
	}
	r.ledger.grow(len(r.receipts))
	return nil
}

// replies compares a reply that is shown.
func (c *comparison) replies(d *difference, conversation string, m *shownMessage) {
	id, _ := parseID([]byte(m.ID))
	want := c.r.replies.get(id)
	switch {
	case want == nil:
		d.fault("%s shows a reply that nobody wrote, or wrote once: %.80q", conversation, m.Text)
	case want.conversation != conversation || want.words != m.Text:
		d.fault("%s shows the reply %.80q, which is %q in %s", conversation, m.Text, want.words, want.conversation)
	case !c.firstAnswer(id, m.Status):
		d.doubled++
		d.example("the reply %q is shown twice", want.words)
	}
}

func (c *comparison) firstAnswer(id messageID, status *string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.answers[id]
	if !known {
		c.answers[id] = ""
		if status != nil {
			c.answers[id] = *status
		}
	}
	return !known
}

// risen orders the states that say that a provider took a reply.
func risen(status string) int { return slices.Index([]string{"sent", "delivered", "read"}, status) }

// written holds the replies that are shown against those that were written and what the providers took:
// each is shown, came to the provider once at most, a conversation's in their order, and what is said of
// each is true.
func (c *comparison) written() {
	taken := c.taken()
	if missing := c.r.replies.count() - len(c.answers); missing > 0 {
		c.lost += missing
		c.example("%d replies are not shown", missing)
	}
	for id, status := range c.answers {
		want := c.r.replies.get(id)
		switch took := taken[want.words]; {
		case status != "unknown" && status != "failed" && risen(status) < 0:
			c.lost++
			c.example("the reply %q has not ended: %s", want.words, status)
		case risen(status) >= 0 && !took:
			c.lost++
			c.example("the reply %q is %s, and the provider never took it", want.words, status)
		case status == "failed" && took:
			c.doubled++ // somebody would send it again
			c.example("the reply %q failed, and the provider took it", want.words)
		case risen(status) < risen(want.status), risen(status) < 0 && c.r.replies.wasAcknowledged(want.words):
			c.lost++
			c.example("the reply %q is %s, and not %s", want.words, status, cmp.Or(want.status, "sent, as the provider told"))
		}
	}
}

// taken are the words of what the providers took.
func (c *comparison) taken() map[string]bool {
	var words []string
	for _, p := range c.r.slack.Posts() {
		words = append(words, p.Text)
	}
	for _, p := range c.r.twilio.Posts() {
		words = append(words, p.Body)
	}
	taken, last := map[string]bool{}, map[int]int{}
	for _, w := range words {
		if c.r.besides[w] {
			continue
		}
		conversation, n, err := parseReply(w)
		switch {
		case taken[w]:
			c.doubled++
			c.example("the provider got %q twice", w)
			continue
		case err != nil:
			c.fault("the provider got what nobody wrote: %.80q", w)
		case n < last[conversation]:
			c.disordered++
			c.example("the provider got %q behind a later one", w)
		}
		taken[w], last[conversation] = true, max(last[conversation], n)
	}
	return taken
}
