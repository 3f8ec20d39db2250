package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// guest is a person who writes to the workspace over one channel, with words that occur nowhere else. All
// that a provider tells of them is kept, to be told again.
type guest struct {
	w *world
	// user and room are Slack's ids of the person and of the direct messages with them; phone is the number
	// of one who writes text messages instead.
	user, room, phone string
	name              string

	mu sync.Mutex
	// needles are what must be found nowhere: identities, names, words.
	needles []string
	sent    []delivery
	n       int
}

// delivery is a webhook that a provider sent.
type delivery struct {
	path string
	body []byte
	sign func() http.Header
}

// invented is a word that nothing else has.
func invented() string {
	var b strings.Builder
	for range 7 {
		b.WriteByte("bdfgklmnprstvz"[rand.IntN(14)])
		b.WriteByte("aeiou"[rand.IntN(5)])
	}
	return b.String()
}

// slackGuest makes one who is known to Slack by a name.
func (w *world) slackGuest() *guest {
	id := fmt.Sprintf("%010X", rand.Uint64()&0xffffffffff)
	g := &guest{w: w, user: "U0" + id, room: "D0" + strings.ToUpper(invented()[:8]), name: "Anna " + invented()}
	w.slack.Know(g.user, g.name)
	g.needles = []string{g.user, g.name, strings.ToLower(g.name)}
	return g
}

// phoneGuest makes one who writes text messages.
func (w *world) phoneGuest() *guest {
	g := &guest{w: w, phone: fmt.Sprintf("+4179%07d", rand.IntN(10_000_000))}
	g.needles = []string{g.phone, g.phone[1:]}
	return g
}

// words makes a text of the guest's, which is looked for afterwards.
func (g *guest) words() string {
	text := fmt.Sprintf("Ich heisse %s und wohne an der %sgasse", invented(), invented())
	g.keep(text)
	return text
}

// keep looks for these afterwards, too.
func (g *guest) keep(needles ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.needles = append(g.needles, needles...)
}

// next is the number of the guest's next event.
func (g *guest) next() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	return g.n
}

// stamp of an event of a direct message, as Slack gives them: now, and never the same twice.
func (g *guest) stamp() string {
	at := time.Now()
	return fmt.Sprintf("%d.%06d", at.Unix(), (at.Nanosecond()/1000/1000*1000+g.next()%1000)%1_000_000)
}

// tell sends an event of Slack's until it is answered 2xx.
func (g *guest) tell(ctx context.Context, event map[string]any) error {
	return g.tellOf(ctx, time.Now(), event)
}

// tellOf sends an event that Slack noted at a time.
func (g *guest) tellOf(ctx context.Context, at time.Time, event map[string]any) error {
	body := standin.SlackEvent(team, app, fmt.Sprintf("Ev%s%d", g.user, g.next()), at, event)
	return g.deliver(ctx, delivery{"/webhooks/slack/proof", body, func() http.Header { return standin.SlackHeader(secret, body, time.Now()) }})
}

// form sends a form of Twilio's; query is the callback's.
func (g *guest) form(ctx context.Context, query string, form url.Values) error {
	path := "/webhooks/sms/" + g.w.sms + query
	return g.deliver(ctx, delivery{path, []byte(form.Encode()), func() http.Header { return standin.TwilioHeader(authToken, g.w.URL+path, form) }})
}

func (g *guest) deliver(ctx context.Context, d delivery) error {
	g.mu.Lock()
	g.sent = append(g.sent, d)
	g.mu.Unlock()
	return g.w.insist(ctx, d.path, d.sign, d.body)
}

// again delivers everything that was sent once more, in another order.
func (g *guest) again(ctx context.Context) error {
	g.mu.Lock()
	all := append([]delivery{}, g.sent...)
	g.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, d := range all {
		if err := g.w.insist(ctx, d.path, d.sign, d.body); err != nil {
			return err
		}
	}
	return nil
}

// says has the guest write.
func (g *guest) says(ctx context.Context, text string) error {
	if g.phone != "" {
		return g.form(ctx, "", standin.TwilioInbound(accountSID, g.sid(), g.phone, number, text))
	}
	return g.tell(ctx, standin.SlackMessage(g.room, "im", g.user, g.stamp(), "", text))
}

// sid is a new id of Twilio's.
func (g *guest) sid() string { return fmt.Sprintf("SM%016x%016x", rand.Uint64(), rand.Uint64()) }

// conversation finds the guest's, which has a message of a text, and its contact.
func (w *world) conversation(ctx context.Context, text string) (conversation, contact string, err error) {
	found, err := w.api.Call(ctx, "GET", "/v1/messages/search?q="+url.QueryEscape(text), nil, http.StatusOK)
	if err != nil {
		return "", "", err
	}
	for _, m := range found.List("items") {
		if m.Text("text") != text {
			continue
		}
		c, err := w.api.Call(ctx, "GET", "/v1/conversations/"+m.Text("conversation_id"), nil, http.StatusOK)
		return c.Text("id"), c.Text("contact_id"), err
	}
	return "", "", fmt.Errorf("no message says %q", text)
}

// arrived waits until a message of a text is shown, and gives where.
func (w *world) arrived(ctx context.Context, text string) (conversation, contact string, err error) {
	err = mesh.Eventually(ctx, 20*time.Second, func() error {
		conversation, contact, err = w.conversation(ctx, text)
		return err
	})
	return conversation, contact, err
}

// object is an answer's.
func object(body []byte) (o mesh.Object, err error) {
	err = json.Unmarshal(body, &o)
	return o, err
}

// contacts are the ids of all that the API lists.
func (w *world) contacts(ctx context.Context) (map[string]bool, error) {
	all, err := w.all(ctx, "/v1/contacts?limit=200")
	ids := map[string]bool{}
	for _, c := range all {
		ids[c.Text("id")] = true
	}
	return ids, err
}

var errShown = errors.New("the API shows what it must not")

// shows reads everything that the API shows, and tells where one of the needles stands in it.
func (w *world) shows(ctx context.Context, needles []string) error {
	conversations, err := w.all(ctx, "/v1/conversations?limit=200")
	if err != nil {
		return err
	}
	paths := []string{"/v1/contacts?limit=200", "/v1/conversations?limit=200", "/v1/privacy/requests?limit=200"}
	for _, c := range conversations {
		paths = append(paths, "/v1/conversations/"+c.Text("id")+"/messages?limit=200")
	}
	for _, path := range paths {
		items, err := w.all(ctx, path)
		if err != nil {
			return err
		}
		text, err := json.Marshal(items)
		if err != nil {
			return err
		}
		for _, needle := range needles {
			if strings.Contains(string(text), needle) {
				return fmt.Errorf("%w: %q at %s", errShown, needle, path)
			}
		}
	}
	return nil
}
