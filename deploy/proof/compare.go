package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// difference is between what the API shows and the model.
type difference struct {
	// lost are accepted webhooks whose effect is not shown; doubled what is shown again; disordered what is
	// shown in the wrong order: neighbours, an older edit, a reaction that was taken back.
	lost, doubled, disordered int
	// broken is what can't be so: what nobody sent, or another's words.
	broken []string
	// late is the longest time from a message's 2xx until the stream showed it, and accepted when that 2xx was.
	late     time.Duration
	accepted int64
	// examples of what is counted.
	examples []string
}

func (d *difference) none() bool { return d.lost+d.doubled+d.disordered+len(d.broken) == 0 }

const mostExamples = 10

// example keeps one; the first few do.
func (d *difference) example(format string, a ...any) {
	if len(d.examples) < mostExamples {
		d.examples = append(d.examples, fmt.Sprintf(format, a...))
	}
}

func (d *difference) fault(format string, a ...any) {
	if len(d.broken) < mostExamples {
		d.broken = append(d.broken, fmt.Sprintf(format, a...))
	}
}

func (d *difference) add(o difference) {
	d.lost, d.doubled, d.disordered = d.lost+o.lost, d.doubled+o.doubled, d.disordered+o.disordered
	if o.late > d.late {
		d.late, d.accepted = o.late, o.accepted
	}
	d.broken, d.examples = append(d.broken, o.broken...), append(d.examples, o.examples...)
	d.broken, d.examples = d.broken[:min(len(d.broken), mostExamples)], d.examples[:min(len(d.examples), mostExamples)]
}

// patience is for how long nothing may get better before what is missing counts as lost.
const patience = 20 * time.Second

// compared compares until nothing differs, or nothing more comes.
func (r *run) compared(ctx context.Context) (difference, error) {
	if err := r.quiet(ctx); err != nil {
		return difference{}, err
	}
	least, changed := -1, time.Now()
	for {
		began := time.Now()
		d, err := r.compare(ctx)
		if err != nil {
			return d, err
		}
		n := d.lost + d.doubled + d.disordered + len(d.broken)
		if n == 0 {
			return d, nil
		}
		if least < 0 || n < least {
			least, changed = n, time.Now()
		}
		// Reading everything keeps a mesh busy that has not caught up: it is left alone for twice as long as that took.
		rest := max(500*time.Millisecond, 2*time.Since(began))
		if time.Since(changed) > max(patience, rest) {
			for _, example := range d.examples {
				r.say("%s: %s", r.name, example)
			}
			return d, nil
		}
		if err := pause(ctx, rest); err != nil {
			return d, err
		}
	}
}

// quiet waits until the stream has told nothing new for a second.
func (r *run) quiet(ctx context.Context) error {
	for last := -1; ; {
		n := r.stream.taken()
		if n == last {
			return nil
		}
		last = n
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

type shownConversation struct {
	ID        string  `json:"id"`
	ContactID *string `json:"contact_id"`
}

type shownMessage struct {
	ID         string          `json:"id"`
	Direction  string          `json:"direction"`
	Status     *string         `json:"status"`
	Content    string          `json:"content"`
	Text       string          `json:"text"`
	ExternalID string          `json:"external_id"`
	EditedAt   *string         `json:"edited_at"`
	DeletedAt  *string         `json:"deleted_at"`
	Sender     shownSender     `json:"sender"`
	Reactions  []shownReaction `json:"reactions"`
}

type shownReaction struct {
	Emoji  string      `json:"emoji"`
	Sender shownSender `json:"sender"`
}

type shownSender struct {
	ContactID string `json:"contact_id"`
	Name      string `json:"name"`
}

type page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor"`
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, r *run, path string, each func(T) error) error {
	return rawPages(ctx, r, path, func(string, []byte) {}, each)
}

// rawPages gives each page as it was answered, too.
func rawPages[T any](ctx context.Context, r *run, path string, raw func(path string, body []byte), each func(T) error) error {
	for cursor := ""; ; {
		status, body, err := r.api.Raw(ctx, "GET", path+cursor, nil)
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("%s is answered %d", path, status)
		}
		raw(path+cursor, body)
		var p page[T]
		if err := json.Unmarshal(body, &p); err != nil {
			return err
		}
		for _, item := range p.Items {
			if err := each(item); err != nil {
				return err
			}
		}
		if p.NextCursor == "" {
			return nil
		}
		cursor = "&cursor=" + url.QueryEscape(p.NextCursor)
	}
}

// comparison holds what is shown against the model, conversation by conversation.
type comparison struct {
	r *run

	mu sync.Mutex
	difference
	conversations []bool               // those that were shown
	contacts      map[string]string    // who a contact is, and back
	answers       map[messageID]string // replies that were shown, and their states
	// tell is told how late each message was shown, where somebody wants to know.
	tell func(accepted int64, late time.Duration)
}

// readers read conversations at once.
const readers = 4

// compare reads every conversation once.
func (r *run) compare(ctx context.Context) (difference, error) {
	c := r.newComparison()
	err := c.read(ctx)
	return c.difference, err
}

func (r *run) newComparison() *comparison {
	return &comparison{r: r, conversations: make([]bool, r.traffic.conversations), contacts: map[string]string{}, answers: map[messageID]string{}}
}

func (c *comparison) read(ctx context.Context) error {
	r := c.r
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ids := make(chan shownConversation, readers)
	var reading sync.WaitGroup
	faults := make([]error, readers)
	for n := range readers {
		reading.Go(func() {
			var x expected
			var acts []act
			var messages []shownMessage
			for shown := range ids {
				messages = messages[:0]
				err := pages(ctx, r, "/v1/conversations/"+shown.ID+"/messages?order=asc&limit=200", func(m shownMessage) error {
					messages = append(messages, m)
					return nil
				})
				if err != nil {
					faults[n] = err
					cancel()
					continue
				}
				acts = c.conversation(shown, messages, acts, &x)
			}
		})
	}
	err := pages(ctx, r, "/v1/conversations?limit=200", func(s shownConversation) error {
		select {
		case ids <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(ids)
	reading.Wait()
	if err := errors.Join(append(faults, err)...); err != nil {
		return err
	}
	c.absent()
	return nil
}

// absent counts what the API shows no conversation of.
func (c *comparison) absent() {
	var x expected
	var acts []act
	for n, shown := range c.conversations {
		if !shown {
			acts = c.r.traffic.expect(n, c.r.ledger, acts, &x)
			var d difference
			d.missing(n, &x, func(int) bool { return false })
			c.add(d)
		}
	}
	c.written()
}

// conversation compares one that is shown.
func (c *comparison) conversation(shown shownConversation, messages []shownMessage, acts []act, x *expected) []act {
	var d difference
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.add(d)
	}()
	number, times := -1, [perConversation]int{}
	var order ordering
	for i := range messages {
		m := &messages[i]
		if m.Direction == "outbound" {
			c.replies(&d, shown.ID, m)
			continue
		}
		n, at, ok := c.r.traffic.placeOf(m.ExternalID)
		if !ok {
			d.fault("%s shows a message that nobody sent: %s", shown.ID, m.ExternalID)
			continue
		}
		if number < 0 {
			number = n
			acts = c.r.traffic.expect(n, c.r.ledger, acts, x)
			c.know(n, acts, messages)
			if !c.first(n) {
				d.doubled++
				d.example("conversation %d is shown twice", n)
			}
		}
		if n != number {
			d.fault("%s shows messages of %d and %d", shown.ID, number, n)
			continue
		}
		if times[at]++; times[at] > 1 {
			d.doubled++
			d.example("message %d/%d is shown %d times", n, at, times[at])
			continue
		}
		if !x.messages[at].may {
			d.fault("message %d/%d is shown and was never sent", n, at)
			continue
		}
		c.message(&d, n, at, m, &x.messages[at])
		if !order.follows(c.r, n, at) {
			d.disordered++
			d.example("message %d/%d is shown behind a later one%s", n, at, order.gap(c.r, n, at))
		}
	}
	if number >= 0 {
		d.missing(number, x, func(at int) bool { return times[at] > 0 })
	}
	return acts
}

// first tells whether a conversation is shown for the first time.
func (c *comparison) first(number int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.conversations[number]
	c.conversations[number] = true
	return !known
}

// missing counts the messages that must be shown and are not.
func (d *difference) missing(conversation int, x *expected, shown func(at int) bool) {
	for at := range x.messages {
		if x.messages[at].must && !shown(at) {
			d.lost++
			d.example("message %d/%d is not shown", conversation, at)
		}
	}
}

// ordering follows the messages of a conversation as they are shown.
type ordering struct {
	last int // place of the last one + 1
	// begun is the latest moment at which one of them was sent first.
	begun int64
}

// follows tells whether a message may stand behind those before. Slack's have the provider's time. Twilio
// gives none: one that was answered before another was sent stands before it.
func (o *ordering) follows(r *run, conversation, at int) bool {
	if r.traffic.medium(conversation) != text {
		ok := at >= o.last
		o.last = max(o.last, at+1)
		return ok
	}
	sent, accepted := r.ledger.when(conversation*perConversation + at)
	ok := accepted == 0 || accepted >= o.begun
	o.begun = max(o.begun, sent)
	return ok
}

// gap says of a message of Twilio's, which is not in its place, by how much.
func (o *ordering) gap(r *run, conversation, at int) string {
	if r.traffic.medium(conversation) != text {
		return ""
	}
	_, accepted := r.ledger.when(conversation*perConversation + at)
	return fmt.Sprintf(": it was answered %d µs before that was sent", o.begun-accepted)
}

// message compares one.
func (c *comparison) message(d *difference, n, at int, m *shownMessage, x *expectedMessage) {
	if id, ok := parseID([]byte(m.ID)); ok {
		shown, seen := c.r.stream.when(id)
		if _, accepted := c.r.ledger.when(n*perConversation + at); seen && accepted > 0 {
			late := time.Duration(shown-accepted) * time.Microsecond
			d.add(difference{late: late, accepted: accepted})
			if c.tell != nil {
				c.mu.Lock()
				c.tell(accepted, late)
				c.mu.Unlock()
			}
		} else if !seen {
			d.fault("the stream never told of message %d/%d", n, at)
		}
	}
	if person := c.r.traffic.person(n, x.who); !c.is(person, m.Sender.ContactID) {
		d.fault("message %d/%d is shown as from %s, and %s wrote it", n, at, m.Sender.ContactID, person)
	} else if name := m.Sender.Name; name != "" && name != person && name != nameOf(person) {
		d.fault("message %d/%d is shown as from %q, and %s wrote it", n, at, name, person)
	}
	switch gone := m.DeletedAt != nil; {
	case gone && x.deleted == not:
		d.fault("message %d/%d is shown as deleted", n, at)
		return
	case !gone && x.deleted == surely:
		d.lost++
		d.example("message %d/%d is not deleted", n, at)
		return
	case gone:
		if m.Text != "" {
			d.fault("message %d/%d is deleted and has a text", n, at)
		}
		return
	}
	c.text(d, n, at, m, x)
	c.reactions(d, n, at, m, x)
}

func (c *comparison) text(d *difference, n, at int, m *shownMessage, x *expectedMessage) {
	if m.Content != "open" {
		d.lost++
		d.example("message %d/%d can't be read: %s", n, at, m.Content)
		return
	}
	version := -1
	if fields := strings.SplitN(strings.SplitN(m.Text, " ", 2)[0], "/", 3); len(fields) == 3 {
		version, _ = strconv.Atoi(fields[2])
	}
	switch {
	case m.Text != c.r.traffic.words(n, at, version):
		d.fault("message %d/%d has other words: %.80q", n, at, m.Text)
	case version == x.text || slices.Contains(x.newer, version):
		if edited := m.EditedAt != nil; edited != (version != at) {
			d.fault("message %d/%d has version %d, and edited is %v", n, at, version, edited)
		}
	case version == at: // no edit at all
		d.lost++
		d.example("message %d/%d was edited at %d and shows no edit", n, at, x.text)
	default:
		d.disordered++
		d.example("message %d/%d has version %d instead of %d", n, at, version, x.text)
	}
}

func (c *comparison) reactions(d *difference, n, at int, m *shownMessage, x *expectedMessage) {
	found := 0
	taken := make([]bool, len(m.Reactions))
	for _, want := range x.reactions {
		person, times := c.r.traffic.person(n, want.who), 0
		for i, got := range m.Reactions {
			if got.Emoji != want.emoji || taken[i] {
				continue
			}
			// Of somebody of whom no message is shown nobody knows which contact they are.
			if c.is(person, got.Sender.ContactID) || times == 0 && c.strangers(person, got.Sender.ContactID) {
				taken[i] = true
				times++
			}
		}
		switch found += times; {
		case times > 1:
			d.doubled++
			d.example("message %d/%d shows %s of one person %d times", n, at, want.emoji, times)
		case times == 0 && want.state == surely:
			d.lost++
			d.example("message %d/%d does not show %s", n, at, want.emoji)
		case times == 1 && want.state == not:
			d.disordered++
			d.example("message %d/%d shows %s, which was taken back", n, at, want.emoji)
		}
	}
	if found != len(m.Reactions) {
		d.fault("message %d/%d shows %d reactions, %d of them of those who reacted", n, at, len(m.Reactions), found)
	}
}

// know who the senders of a conversation's messages are.
func (c *comparison) know(conversation int, acts []act, messages []shownMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range messages {
		n, at, ok := c.r.traffic.placeOf(messages[i].ExternalID)
		contact := messages[i].Sender.ContactID
		if !ok || n != conversation || messages[i].Direction == "outbound" || contact == "" {
			continue
		}
		if person := c.r.traffic.person(n, acts[at].who); c.contacts[person] == "" && c.contacts[contact] == "" {
			c.contacts[person], c.contacts[contact] = contact, person
		}
	}
}

// is tells whether a contact is a person, and the person this contact.
func (c *comparison) is(person, contact string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return contact != "" && c.contacts[person] == contact && c.contacts[contact] == person
}

// strangers: neither the person nor the contact is known.
func (c *comparison) strangers(person, contact string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contacts[person] == "" && c.contacts[contact] == ""
}
