package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// shownAPI answers what it is told to: what a mesh would show, and what is wrong with it.
type shownAPI struct {
	r        *run
	messages map[int][]shownMessage // of conversations
}

// newShownAPI shows all traffic as it must be, and a reply to the first conversation.
func newShownAPI(t *testing.T) *shownAPI {
	t.Helper()
	a := &shownAPI{messages: map[int][]shownMessage{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, items any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	}
	mux.HandleFunc("GET /v1/conversations", func(w http.ResponseWriter, _ *http.Request) {
		var all []shownConversation
		for c := range a.messages {
			all = append(all, shownConversation{ID: fmt.Sprint(c)})
		}
		answer(w, all)
	})
	mux.HandleFunc("GET /v1/conversations/{id}/messages", func(w http.ResponseWriter, r *http.Request) {
		var c int
		_, _ = fmt.Sscan(r.PathValue("id"), &c)
		answer(w, a.messages[c])
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w := &world{api: mesh.NewClient(server.URL)}
	var err error
	if w.slack, err = standin.NewSlack("127.0.0.1:0", nil, nil); err != nil {
		t.Fatal(err)
	}
	if w.twilio, err = standin.NewTwilio("127.0.0.1:0", accountSID, authToken, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = w.slack.Close(), w.twilio.Close() })
	a.r = newRun(w, options{size: 1600, seed: 1, say: t.Logf}, scenario{name: "compare"}, time.Now().Add(-time.Minute))
	for e := range a.r.traffic.events() {
		a.r.ledger.sent[e], a.r.ledger.accepted[e] = int64(2*e+1), int64(2*e+2)
	}
	var x expected
	for c := range a.r.traffic.conversations {
		acts := a.r.traffic.expect(c, a.r.ledger, nil, &x)
		for at, m := range x.messages {
			if m.may {
				a.messages[c] = append(a.messages[c], a.show(c, at, acts, &m))
			}
		}
	}
	id := messageID{15: 1}
	a.r.replies.keep(id, &reply{conversation: "0", words: replyWords(0, 1)})
	a.messages[0] = append(a.messages[0], shownMessage{ID: idText(id), Direction: "outbound", Status: new("unknown"), Text: replyWords(0, 1)})
	return a
}

func idText(id messageID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// show a message as the model has it.
func (a *shownAPI) show(c, at int, acts []act, m *expectedMessage) shownMessage {
	t := a.r.traffic
	id := messageID{0: 1, 1: byte(c), 2: byte(at)}
	a.r.stream.seen[id] = a.r.ledger.now()
	external := fmt.Sprintf("C0:%s", t.stamp(c, at))
	if t.medium(c) == text {
		external = sid(c, at)
	}
	s := shownMessage{ID: idText(id), Direction: "inbound", Content: "open", ExternalID: external, Text: t.words(c, at, m.text),
		Sender: shownSender{ContactID: "contact of " + t.person(c, acts[at].who), Name: nameOf(t.person(c, acts[at].who))}}
	if m.text != at {
		s.EditedAt = new("then")
	}
	if m.deleted == surely {
		s.DeletedAt, s.Text, s.Content = new("then"), "", "deleted"
		return s
	}
	for _, reacted := range m.reactions {
		if reacted.state == surely {
			s.Reactions = append(s.Reactions, shownReaction{reacted.emoji, shownSender{ContactID: "contact of " + t.person(c, reacted.who)}})
		}
	}
	return s
}

// take has Slack take replies to the first conversation.
func (a *shownAPI) take(t *testing.T, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		resp, err := http.PostForm(a.r.slack.APIURL()+"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"C0"}, "text": {replyWords(0, n)}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// find the first message that is so.
func (a *shownAPI) find(t *testing.T, is func(c int, m *shownMessage) bool) (conversation, i int) {
	t.Helper()
	for c := range a.r.traffic.conversations {
		for i := range a.messages[c] {
			if is(c, &a.messages[c][i]) {
				return c, i
			}
		}
	}
	t.Fatal("the traffic has no such message")
	return 0, 0
}

// TestCompare changes one thing of what is shown, and wants it found and counted as what it is.
func TestCompare(t *testing.T) {
	plain := func(c int, m *shownMessage) bool {
		return m.DeletedAt == nil && m.EditedAt == nil && m.Direction == "inbound" && len(m.Reactions) == 0 && c > 0
	}
	edited := func(_ int, m *shownMessage) bool { return m.EditedAt != nil && m.DeletedAt == nil }
	reacted := func(_ int, m *shownMessage) bool { return len(m.Reactions) > 0 }
	texts := func(c int, m *shownMessage) bool { return c%4 == 3 }
	reply := func(_ int, m *shownMessage) bool { return m.Direction == "outbound" }
	for name, of := range map[string]struct {
		is                        func(c int, m *shownMessage) bool
		harm                      func(a *shownAPI, c, i int)
		lost, doubled, disordered int
		broken                    bool
	}{
		"nothing":             {is: plain, harm: func(*shownAPI, int, int) {}},
		"a message missing":   {is: plain, harm: func(a *shownAPI, c, i int) { a.messages[c] = slices.Delete(a.messages[c], i, i+1) }, lost: 1},
		"a conversation away": {is: func(c int, _ *shownMessage) bool { return c == 5 }, harm: func(a *shownAPI, c, _ int) { delete(a.messages, c) }, lost: -1},
		"a message twice": {is: plain, harm: func(a *shownAPI, c, i int) {
			a.messages[c] = slices.Insert(a.messages[c], i, a.messages[c][i])
		}, doubled: 1},
		"a conversation twice": {is: func(c int, _ *shownMessage) bool { return c == 5 }, harm: func(a *shownAPI, c, _ int) {
			a.messages[1000] = a.messages[c]
		}, doubled: 1},
		"neighbours swapped": {is: plain, harm: func(a *shownAPI, c, i int) {
			m := a.messages[c]
			m[i], m[i+1] = m[i+1], m[i]
		}, disordered: 1},
		"texts swapped": {is: texts, harm: func(a *shownAPI, c, i int) {
			m := a.messages[c]
			m[i], m[i+1] = m[i+1], m[i]
		}, disordered: 1},
		"an edit missing": {is: edited, harm: func(a *shownAPI, c, i int) {
			_, at, _ := a.r.traffic.placeOf(a.messages[c][i].ExternalID)
			a.messages[c][i].Text, a.messages[c][i].EditedAt = a.r.traffic.words(c, at, at), nil
		}, lost: 1},
		"an older edit": {is: edited, harm: func(a *shownAPI, c, i int) {
			_, at, _ := a.r.traffic.placeOf(a.messages[c][i].ExternalID)
			a.messages[c][i].Text = a.r.traffic.words(c, at, at+1)
		}, disordered: 1},
		"other words":       {is: plain, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Text += "." }, broken: true},
		"a deletion undone": {is: func(_ int, m *shownMessage) bool { return m.DeletedAt != nil }, harm: func(a *shownAPI, c, i int) { a.messages[c][i].DeletedAt = nil }, lost: 1},
		"a deletion of nobody": {is: plain, harm: func(a *shownAPI, c, i int) {
			a.messages[c][i].DeletedAt, a.messages[c][i].Text = new("then"), ""
		}, broken: true},
		"not to be read":     {is: plain, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Content = "unreadable" }, lost: 1},
		"another's":          {is: texts, harm: func(a *shownAPI, c, i int) { a.messages[c][i+1].Sender.ContactID = "contact of nobody" }, broken: true},
		"another's name":     {is: plain, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Sender.Name = "Somebody" }, broken: true},
		"of nobody":          {is: plain, harm: func(a *shownAPI, c, i int) { a.messages[c][i].ExternalID = "C0:1.000001" }, lost: 1, broken: true},
		"a reaction missing": {is: reacted, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Reactions = a.messages[c][i].Reactions[1:] }, lost: 1},
		"a reaction twice": {is: reacted, harm: func(a *shownAPI, c, i int) {
			a.messages[c][i].Reactions = append(a.messages[c][i].Reactions, a.messages[c][i].Reactions[0])
		}, doubled: 1},
		"a reaction of nobody": {is: plain, harm: func(a *shownAPI, c, i int) {
			a.messages[c][i].Reactions = append(a.messages[c][i].Reactions, shownReaction{Emoji: "boom"})
		}, broken: true},
		"not told by the stream": {is: plain, harm: func(a *shownAPI, c, i int) {
			id, _ := parseID([]byte(a.messages[c][i].ID))
			delete(a.r.stream.seen, id)
		}, broken: true},
		"a reply missing":                  {is: reply, harm: func(a *shownAPI, c, i int) { a.messages[c] = a.messages[c][:i] }, lost: 1},
		"a reply of nobody":                {is: reply, harm: func(a *shownAPI, c, i int) { a.r.replies.byID = nil }, broken: true},
		"a reply twice":                    {is: reply, harm: func(a *shownAPI, c, i int) { a.messages[c] = append(a.messages[c], a.messages[c][i]) }, doubled: 1},
		"a reply not ended":                {is: reply, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Status = new("sending") }, lost: 1},
		"a reply sent to nobody":           {is: reply, harm: func(a *shownAPI, c, i int) { a.messages[c][i].Status = new("sent") }, lost: 1},
		"a reply taken twice":              {is: reply, harm: func(a *shownAPI, _, _ int) { a.take(t, 1, 1) }, doubled: 1},
		"replies taken in the wrong order": {is: reply, harm: func(a *shownAPI, _, _ int) { a.take(t, 2, 1) }, disordered: 1},
		"a failed reply taken": {is: reply, harm: func(a *shownAPI, c, i int) {
			a.take(t, 1)
			a.messages[c][i].Status = new("failed")
		}, doubled: 1},
		"a reply not known to be sent": {is: reply, harm: func(a *shownAPI, c, i int) {
			a.r.replies.acknowledge(replyWords(0, 1))
		}, lost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := newShownAPI(t)
			c, i := a.find(t, of.is)
			if of.lost < 0 {
				for _, m := range a.messages[c] {
					if m.Direction == "inbound" {
						of.lost = max(of.lost, 0) + 1
					}
				}
			}
			of.harm(a, c, i)
			d, err := a.r.compare(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d.lost != of.lost || d.doubled != of.doubled || d.disordered != of.disordered || len(d.broken) > 0 != of.broken {
				t.Errorf("lost %d, doubled %d, disordered %d, want %d, %d, %d; broken: %q; %q",
					d.lost, d.doubled, d.disordered, of.lost, of.doubled, of.disordered, d.broken, d.examples)
			}
		})
	}
}
