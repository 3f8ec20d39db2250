package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel/standin"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// bind: sealed parts are moved between two records of the same person, and of two persons, by somebody who
// can write to the database and to the topics. Neither opens where it then is.
func provesBound(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	w.slack.Keep("anna", []byte("the file of anna"))
	w.slack.Keep("anna2", []byte("another file of anna"))
	w.slack.Keep("ben", []byte("the file of ben"))
	texts := []string{anna.words(), anna.words(), ben.words()}
	for i, g := range []*guest{anna, anna, ben} {
		m := standin.SlackMessage(g.room, "im", g.user, g.stamp(), "", texts[i])
		m["subtype"], m["files"] = "file_share", []any{map[string]any{"id": fmt.Sprintf("F000%d", i), "name": "file.txt", "mimetype": "text/plain",
			"url_private_download": w.slack.URL + "/files/" + []string{"anna", "anna2", "ben"}[i]}}
		check(t, g.tell(ctx, m))
	}
	ids, contacts, attachments := make([]string, 3), make([]string, 3), make([]string, 3)
	for i, text := range texts {
		conversation, contact, err := w.arrived(ctx, text)
		check(t, err)
		within(t, 10*time.Second, func() error {
			for _, m := range w.must(t, "GET", "/v1/conversations/"+conversation+"/messages", nil, 200).List("items") {
				if m.Text("text") == text && m.List("attachments")[0].Text("state") == "stored" {
					ids[i], contacts[i], attachments[i] = m.Text("id"), contact, m.List("attachments")[0].Text("id")
					return nil
				}
			}
			return errors.New("the file is not stored yet")
		})
	}
	within(t, 10*time.Second, func() error {
		for i, g := range []*guest{anna, anna, ben} {
			if c := w.must(t, "GET", "/v1/contacts/"+contacts[i], nil, 200); c.Text("name") != g.name {
				return fmt.Errorf("%s is called %q", g.name, c.Text("name"))
			}
		}
		return nil
	})

	// swap two rows' columns, see what that does, and swap them back.
	swap := func(table, key string, columns []string, a, b string, then func()) {
		t.Helper()
		for n := range 2 {
			check(t, w.swap(ctx, table, key, columns, a, b))
			if n == 0 {
				then()
			}
		}
	}
	all := []string{"content_subject", "content_key", "ciphertext", "content_id", "content_order", "content_event"}
	for other, whose := range map[int]string{1: "the same person", 2: "another person"} {
		for _, columns := range [][]string{{"ciphertext"}, {"content_subject", "content_key", "ciphertext"}, all} {
			swap("messages", "id", columns, ids[0], ids[other], func() {
				for _, id := range []string{ids[0], ids[other]} {
					if m := w.must(t, "GET", "/v1/messages/"+id, nil, 200); m.Text("content") != "unreadable" || m.Text("text") != "" {
						t.Errorf("%v of a message of %s opens: %s %q", columns, whose, m.Text("content"), m.Text("text"))
					}
				}
			})
		}
		for _, columns := range [][]string{{"ciphertext"}, {"key_subject", "key_id", "ciphertext"}, {"key_subject", "key_id", "ciphertext", "object", "size"}} {
			swap("attachments", "id", columns, attachments[0], attachments[other], func() {
				for _, id := range []string{attachments[0], attachments[other]} {
					if status, body, err := w.api.Raw(ctx, "GET", "/v1/attachments/"+id+"/content", nil); err != nil || status < 400 {
						t.Errorf("with the %v of a file of %s it answers %d: %q %v", columns, whose, status, body, err)
					}
				}
			})
		}
	}
	subjects, err := w.column(ctx, "conversation", "SELECT subject_id FROM contacts WHERE id IN ('"+contacts[0]+"', '"+contacts[2]+"')")
	check(t, err)
	nameless := func(what string) func() {
		return func() {
			for _, contact := range []string{contacts[0], contacts[2]} {
				if c := w.must(t, "GET", "/v1/contacts/"+contact, nil, 200); c.Text("name") != "" && slices.Contains([]string{anna.name, ben.name}, c.Text("name")) {
					t.Errorf("with the other's %s a contact is called %q", what, c.Text("name"))
				}
			}
		}
	}
	swap("profiles", "subject_id", []string{"key_id", "ciphertext"}, subjects[0], subjects[1], nameless("profile"))
	swap("identities", "subject_id", []string{"key_id", "ciphertext"}, subjects[0], subjects[1], func() {
		for _, contact := range []string{contacts[0], contacts[2]} {
			for _, identity := range w.must(t, "GET", "/v1/contacts/"+contact, nil, 200).List("identities") {
				if identity.Text("value") != "" {
					t.Errorf("with the other's identity a contact is %q", identity.Text("value"))
				}
			}
		}
	})
	for i, text := range texts { // all of it is as it was
		if m := w.must(t, "GET", "/v1/messages/"+ids[i], nil, 200); m.Text("text") != text {
			t.Fatalf("swapped back, a message is %q", m.Text("text"))
		}
	}

	// In the topic: the mesh is made to forget the messages, and reads their events again with the parts swapped.
	read, err := records(ctx, w.Mesh)
	check(t, err)
	events := map[string]*pb.ChannelEvent{}
	keys := map[string]string{}
	for _, r := range read {
		e := &pb.ChannelEvent{}
		if r.Topic == "inbound.slack" && proto.Unmarshal(r.Value, e) == nil && e.Type == pb.EventType_EVENT_TYPE_MESSAGE {
			events[e.MessageId], keys[e.MessageId] = e, r.Key
		}
	}
	again := func(swapped bool, a, b string) {
		t.Helper()
		pair := []*pb.ChannelEvent{proto.CloneOf(events[a]), proto.CloneOf(events[b])}
		if swapped {
			pair[0].Parts, pair[1].Parts = pair[1].Parts, pair[0].Parts
		}
		var msgs []bus.Message
		for i, id := range []string{a, b} {
			check(t, w.execute(ctx, "conversation", "DELETE FROM seen_events WHERE id = '"+pair[i].Id+"'",
				"DELETE FROM messages WHERE id = '"+id+"'", "DELETE FROM external_refs WHERE message_id = '"+id+"'"))
			value, err := proto.Marshal(pair[i])
			check(t, err)
			msgs = append(msgs, bus.Message{Topic: "inbound.slack", Key: keys[id], Value: value})
		}
		check(t, w.produce(ctx, msgs...))
		for i, id := range []string{a, b} {
			var m mesh.Object
			within(t, 10*time.Second, func() (err error) { m, err = w.message(ctx, id); return err })
			if swapped && (m.Text("content") != "unreadable" || m.Text("text") != "") {
				t.Errorf("a part of another event opens: %s %q", m.Text("content"), m.Text("text"))
			}
			if want := texts[slices.Index(ids, []string{a, b}[i])]; !swapped && m.Text("text") != want {
				t.Errorf("the event as it was gives %q, want %q", m.Text("text"), want)
			}
		}
	}
	again(true, ids[0], ids[1])
	again(true, ids[0], ids[2])
	again(false, ids[0], ids[2])
}
