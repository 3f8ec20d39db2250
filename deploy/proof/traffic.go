package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tributary.dev/libs/channel/standin"
)

// traffic is what people do in a run's conversations, as a function of size, seed and the moment it began.
// Half of the conversations are threads of Slack channels, a quarter are direct messages, a quarter text
// messages. The events are numbered: event e is the act e%perConversation of conversation e/perConversation.
type traffic struct {
	conversations int
	seed          uint64
	base          int64 // µs since 1970 of the first event at the provider
}

// act is one thing that a person does, which the provider tells by one webhook.
type act struct {
	kind kind
	// at is its place in the conversation, and so its time.
	at int
	// target is the place of the message that it is about; of a message its own.
	target int
	// who does it: one who has written before.
	who int
	// emoji of a reaction.
	emoji string
}

type kind uint8

const (
	message   kind = iota
	mention        // the message again, as app_mention
	edit           // gives the message a new text
	deletion       // of the message
	reaction       // to the message
	withdrawn      // a reaction taken back
)

// medium of a conversation.
type medium uint8

const (
	thread medium = iota
	direct
	text
)

func newTraffic(size int, seed uint64, now time.Time) *traffic {
	n := max(size/perConversation, 1)
	// The first event lies an hour before, or as far as all events need.
	span := time.Duration(n*perConversation) * time.Millisecond
	return &traffic{conversations: n, seed: seed, base: now.Add(-max(time.Hour, 2*span)).Truncate(time.Second).UnixMicro()}
}

// events is how many there are.
func (t *traffic) events() int { return t.conversations * perConversation }

func (t *traffic) medium(conversation int) medium {
	switch conversation % 4 {
	case 0, 1:
		return thread
	case 2:
		return direct
	}
	return text
}

// script gives the acts of a conversation, in their order at the provider.
func (t *traffic) script(conversation int, acts []act) []act {
	acts = acts[:0]
	random := rand.New(rand.NewPCG(t.seed, uint64(conversation)))
	people := 1
	if t.medium(conversation) == thread {
		people = 5
	}
	var gone [perConversation]bool
	emojis := [...]string{"wave", "eyes", "tada"}
	for at := range perConversation {
		a := act{at: at, target: at, who: random.IntN(people)}
		dice, about := random.IntN(100), random.IntN(max(at, 1))
		if at > 0 && dice < 45 && t.medium(conversation) != text {
			target := acts[about].target // of a message, or of what is about it
			switch {
			case gone[target]:
			case dice < 20:
				a.kind, a.target, a.who = edit, target, acts[target].who
			case dice < 32:
				a.kind, a.target, a.who, a.emoji = reaction, target, acts[random.IntN(at)].who, emojis[random.IntN(3)]
			case dice < 36:
				a.kind, a.target, a.who, a.emoji = withdrawn, target, acts[random.IntN(at)].who, emojis[random.IntN(3)]
			case dice < 40 && t.medium(conversation) == thread:
				a.kind, a.target, a.who = mention, target, acts[target].who
			case dice < 45 && target > 0: // of a thread's first message a deletion is told otherwise
				a.kind, a.target, a.who = deletion, target, acts[target].who
				gone[target] = true
			}
		}
		acts = append(acts, a)
	}
	return acts
}

// shuffled numbers from 0 to n, and one in repeat of them a second time; as many orders as salts.
func shuffled(n, repeat int, seed, salt uint64) []uint32 {
	random := rand.New(rand.NewPCG(seed, 1<<63|salt))
	order := make([]uint32, 0, n+n/repeat)
	for e := range n {
		order = append(order, uint32(e))
	}
	for range n / repeat {
		order = append(order, uint32(random.IntN(n)))
	}
	random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}

// words that message or edit at a place of a conversation has. They say whose they are.
func (t *traffic) words(conversation, target, at int) string {
	return fmt.Sprintf("%d/%d/%d Grüezi & „guten Tag“ 👋, das ist Nachricht %d in der Fassung %d", conversation, target, at, target, at)
}

// micros is the provider's time of a place: events of a conversation are apart by as many milliseconds as
// there are conversations, so that no two of a run are at the same time.
func (t *traffic) micros(conversation, at int) int64 {
	return t.base + (int64(at)*int64(t.conversations)+int64(conversation))*1000
}

// place is the reverse of micros.
func (t *traffic) place(micros int64) (conversation, at int, ok bool) {
	n := (micros - t.base) / 1000
	if (micros-t.base)%1000 != 0 || n < 0 || n >= int64(t.events()) {
		return 0, 0, false
	}
	return int(n % int64(t.conversations)), int(n / int64(t.conversations)), true
}

func (t *traffic) stamp(conversation, at int) string {
	micros := t.micros(conversation, at)
	return fmt.Sprintf("%d.%06d", micros/1_000_000, micros%1_000_000)
}

// sid is Twilio's id of a message.
func sid(conversation, at int) string { return fmt.Sprintf("SM%024x%08x", conversation, at) }

// placeOf finds the message that a provider's id names: Slack's by its time, Twilio's by its number.
func (t *traffic) placeOf(externalID string) (conversation, at int, ok bool) {
	if len(externalID) == 34 && externalID[:2] == "SM" {
		c, err := strconv.ParseUint(externalID[2:26], 16, 64)
		a, err2 := strconv.ParseUint(externalID[26:], 16, 64)
		ok = err == nil && err2 == nil && c < uint64(t.conversations) && a < perConversation
		return int(c), int(a), ok
	}
	const stamp = len("1700000000.000000")
	if len(externalID) < stamp {
		return 0, 0, false
	}
	s := externalID[len(externalID)-stamp:]
	seconds, err := strconv.ParseInt(s[:10], 10, 64)
	rest, err2 := strconv.ParseInt(s[11:], 10, 64)
	if err != nil || err2 != nil || s[10] != '.' {
		return 0, 0, false
	}
	return t.place(seconds*1_000_000 + rest)
}

// member is the id that a channel's members have at Slack; conversations share them.
func (t *traffic) member(conversation, who int) string {
	return fmt.Sprintf("U0MEMBER%d", (conversation/4*3+who)%(t.conversations+5))
}

// person is who acts, as the provider knows them.
func (t *traffic) person(conversation, who int) string {
	switch t.medium(conversation) {
	case thread:
		return t.member(conversation, who)
	case direct:
		return fmt.Sprintf("U0DIRECT%d", conversation)
	}
	return fmt.Sprintf("+4179%07d", conversation)
}

// names of Slack's users.
func (t *traffic) names() map[string]string {
	names := map[string]string{}
	for c := range t.conversations {
		for who := range 5 {
			if t.medium(c) != text {
				names[t.person(c, who)] = nameOf(t.person(c, who))
			}
		}
	}
	return names
}

func nameOf(person string) string { return "Name of " + person }

// channel that a conversation is in at Slack: four threads share one.
func (t *traffic) channel(conversation int) (id, channelType string) {
	if t.medium(conversation) == direct {
		return fmt.Sprintf("D0%d", conversation), "im"
	}
	return fmt.Sprintf("C0%d", conversation/8), "channel"
}

// webhook is a provider's request.
type webhook struct {
	path string
	body []byte
	sign func() http.Header // anew each time that it is sent
}

// webhook makes the request that tells of an event, or of what became of a reply.
func (r *run) webhook(event int, acts []act) webhook {
	t := r.traffic
	if event >= t.events() {
		return r.receipts[event-t.events()]
	}
	c := event / perConversation
	a := t.script(c, acts)[event%perConversation]
	if t.medium(c) == text {
		return r.twilioWebhook("", standin.TwilioInbound(accountSID, sid(c, a.at), t.person(c, a.who), number, t.words(c, a.at, a.at)))
	}
	return slackWebhook(fmt.Sprintf("Ev%d", event), time.UnixMicro(t.micros(c, a.at)), t.slackEvent(c, a))
}

func slackWebhook(id string, at time.Time, event map[string]any) webhook {
	body := standin.SlackEvent(team, app, id, at, event)
	return webhook{"/webhooks/slack/proof", body, func() http.Header { return standin.SlackHeader(secret, body, time.Now()) }}
}

// twilioWebhook has the query of a callback, from its question mark on.
func (w *world) twilioWebhook(query string, form url.Values) webhook {
	path := "/webhooks/sms/" + w.sms + query
	return webhook{path, []byte(form.Encode()), func() http.Header { return standin.TwilioHeader(authToken, w.URL+path, form) }}
}

func (t *traffic) slackEvent(c int, a act) map[string]any {
	id, channelType := t.channel(c)
	root := ""
	if channelType == "channel" && a.target > 0 {
		root = t.stamp(c, 0)
	}
	who, target := t.person(c, a.who), t.stamp(c, a.target)
	switch a.kind {
	case message:
		return standin.SlackMessage(id, channelType, who, target, root, t.words(c, a.at, a.at))
	case mention:
		m := standin.SlackMessage(id, channelType, who, target, root, t.words(c, a.target, a.target))
		m["type"] = "app_mention"
		return m
	case edit:
		return standin.SlackEdit(id, channelType, who, target, root, t.stamp(c, a.at), "before", t.words(c, a.target, a.at))
	case deletion:
		return standin.SlackDeletion(id, channelType, who, target, t.stamp(c, a.at))
	}
	return standin.SlackReaction(id, who, target, t.stamp(c, a.at), a.emoji, a.kind == withdrawn)
}
