package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel/standin"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// cache_bound: the key registry is cut off from its keys while everything has just been read. Once the TTL is
// over nothing opens any more, by item or by list, and nothing is half-open; when it is back, all is.
func provesCachesBounded(t *testing.T) {
	const ttl = 3 * time.Second
	w := newSwiftWorld(t, map[string]string{"TRIBUTARY_CACHE_TTL": ttl.String()})
	ctx := t.Context()
	anna, carla := w.slackGuest(), w.phoneGuest()
	words, hers := anna.words(), carla.words()
	check(t, anna.says(ctx, words), carla.says(ctx, hers))
	conversation, contact, err := w.arrived(ctx, words)
	check(t, err)
	_, _, err = w.arrived(ctx, hers)
	check(t, err)
	paths := []string{"/v1/conversations/" + conversation + "/messages", "/v1/contacts/" + contact, "/v1/contacts", "/v1/messages/search?q=Ich"}
	opened := func() (open int) {
		for _, path := range paths {
			status, body, err := w.api.Raw(ctx, "GET", path, nil)
			check(t, err)
			switch {
			case status == http.StatusServiceUnavailable:
			case status != http.StatusOK:
				t.Fatalf("%s is answered %d: %s", path, status, body)
			default:
				open++
			}
		}
		return open
	}
	if n := opened(); n != len(paths) {
		t.Fatalf("%d of %d open at first", n, len(paths))
	}
	mend, err := w.cutRegistry(ctx)
	check(t, err)
	cut := time.Now()
	kept, last := false, time.Duration(0)
	for time.Since(cut) < ttl+2*time.Second {
		asked := time.Since(cut)
		if opened() > 0 {
			kept, last = true, asked
		}
		time.Sleep(50 * time.Millisecond) // the bound is a time
	}
	if !kept {
		t.Error("nothing opened right after the cut: the check shows nothing")
	}
	if last >= ttl {
		t.Errorf("something opened %s after the registry was cut off", last)
	}
	// What arrives meanwhile is accepted, and opens when the registry is back.
	late := anna.words()
	check(t, anna.says(ctx, late))
	check(t, mend())
	_, _, err = w.arrived(ctx, late)
	check(t, err)
	within(t, 10*time.Second, func() error {
		if n := opened(); n != len(paths) {
			return fmt.Errorf("%d of %d open again", n, len(paths))
		}
		return nil
	})
}

// acks: a second holder declares itself, and is away when a person is erased. The request never completes, and
// names its step; restarts change nothing. When the holder has answered, it completes once.
func provesNoHolderLeftOut(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna := w.slackGuest()
	words := anna.words()
	check(t, anna.says(ctx, words))
	_, contact, err := w.arrived(ctx, words)
	check(t, err)
	archive, err := proto.Marshal(&pb.Holder{Name: "archive", Holdings: []*pb.Holder_Holding{{Store: "letters", Category: pb.Category_CATEGORY_CONTENT}}})
	check(t, err, w.produce(ctx, bus.Message{Topic: "holders", Key: "archive", Value: archive}))
	id, err := w.erase(ctx, contact)
	check(t, err)
	awaitStep := func(step string) mesh.Object {
		t.Helper()
		var r mesh.Object
		within(t, 20*time.Second, func() (err error) {
			if r, err = w.erasure(ctx, id); err == nil && r.Text("step") != step {
				err = fmt.Errorf("the request is at %s", r.Text("step"))
			}
			return err
		})
		return r
	}
	awaitStep("erasing")
	answers := func(found, deleted int64) {
		t.Helper()
		all, err := records(ctx, w.Mesh)
		check(t, err)
		var msgs []bus.Message
		asked := map[string]bool{}
		for _, r := range all {
			c := &pb.PrivacyCommand{}
			if r.Topic == "privacy.commands" && proto.Unmarshal(r.Value, c) == nil && c.Kind == pb.PrivacyCommand_KIND_ERASE && c.RequestId == id && !asked[c.SubjectId] {
				asked[c.SubjectId] = true
				ack, err := proto.Marshal(&pb.PrivacyAck{CommandId: c.Id, RequestId: id, Holder: "archive", SubjectId: c.SubjectId, Kind: c.Kind,
					Found: map[string]int64{"letters": found}, Deleted: map[string]int64{"letters": deleted}, AtUs: time.Now().UnixMicro()})
				check(t, err)
				msgs = append(msgs, bus.Message{Topic: "privacy.acks", Key: id, Value: ack})
			}
		}
		if len(msgs) != 1 {
			t.Fatalf("the holder was asked about %d subjects", len(msgs))
		}
		check(t, w.produce(ctx, msgs...))
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); { // six times as long as until it is asked again
		if r := awaitStep("erasing"); r.Text("status") == "completed" || r["certificate"] != nil {
			t.Fatalf("completed without a holder's answer: %v", r)
		}
		time.Sleep(100 * time.Millisecond) // it must not come
	}
	if status, _, err := w.api.Raw(ctx, "GET", "/v1/privacy/requests/"+id+"/certificate", nil); err != nil || status != http.StatusNotFound {
		t.Errorf("a certificate before its time: %d %v", status, err)
	}
	answers(3, 2) // it failed
	within(t, 20*time.Second, func() error {
		r, err := w.erasure(ctx, id)
		if err == nil && (r.Text("status") != "failed" || r.Text("failed") != "archive: left letters") {
			err = fmt.Errorf("a holder that leaves something: %v", r)
		}
		return err
	})
	answers(3, 3)
	check(t, w.completed(ctx, id, 20*time.Second))
	first, err := w.certificate(ctx, id)
	check(t, err)
	answers(0, 0) // answered once more, and asked for once more
	if again, err := w.erase(ctx, contact); err != nil || again != id {
		t.Errorf("asked for again, it is %s, not %s: %v", again, id, err)
	}
	second, err := w.certificate(ctx, id)
	check(t, err)
	if string(first) != string(second) {
		t.Error("completed twice")
	}
}

// late_events: what an erased person did before comes after: it is dropped, whichever way it comes, and makes
// nobody new; what they do after makes somebody new.
func provesLateEventsDropped(t *testing.T) {
	w := newSwiftWorld(t, map[string]string{"TRIBUTARY_CONVERSATION_POLL": "100ms"})
	ctx := t.Context()
	anna, carla, ben := w.slackGuest(), w.phoneGuest(), w.slackGuest()
	words := map[*guest]string{anna: anna.words(), carla: carla.words(), ben: ben.words()}
	contacts := map[*guest]string{}
	for g, text := range words {
		check(t, g.says(ctx, text))
		_, contact, err := w.arrived(ctx, text)
		check(t, err)
		contacts[g] = contact
	}
	conversation, _, err := w.conversation(ctx, words[carla])
	check(t, err)
	w.must(t, "POST", "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": carla.words()}, 201)
	within(t, 10*time.Second, func() error {
		if len(w.twilio.Posts()) != 1 {
			return errors.New("nothing was sent")
		}
		return nil
	})
	post := w.twilio.Posts()[0]

	// Dead-lettered before; and spooled before, by a mesh that is killed with it in its spool.
	check(t, w.refuse(ctx, true))
	check(t, anna.says(ctx, anna.words()), carla.says(ctx, carla.words()))
	within(t, 20*time.Second, func() error {
		n, err := w.Metric(ctx, "tributary_dead_letters_total")
		if err == nil && n < 2 {
			err = fmt.Errorf("%.0f were dead-lettered", n)
		}
		return err
	})
	check(t, w.refuse(ctx, false))
	within(t, 10*time.Second, func() error { return w.Drained(ctx) })
	mend, err := w.cutRegistry(ctx)
	check(t, err)
	time.Sleep(1100 * time.Millisecond) // what the caches have ends
	check(t, anna.says(ctx, anna.words()), carla.says(ctx, carla.words()))
	spooled, err := segments(w.data)
	check(t, err)
	if len(spooled) != 2 {
		t.Fatalf("%d segments were spooled", len(spooled))
	}
	check(t, mend())
	within(t, 20*time.Second, func() error { return w.Drained(ctx) })
	queued, err := records(ctx, w.Mesh)
	check(t, err)

	for _, g := range []*guest{anna, carla} {
		id, err := w.erase(ctx, contacts[g])
		check(t, err, w.completed(ctx, id, 20*time.Second))
	}
	nobodyNew := func(when string) {
		t.Helper()
		within(t, 20*time.Second, func() error { return w.Drained(ctx) })
		found, err := w.contacts(ctx)
		check(t, err)
		if len(found) != 1 || !found[contacts[ben]] {
			t.Errorf("%s there are %d contacts, not Ben alone", when, len(found))
		}
		for _, g := range []*guest{anna, carla} {
			if err := w.shows(ctx, g.needles); err != nil {
				t.Errorf("%s %v", when, err)
			}
		}
	}
	nobodyNew("after the erasure")

	// Queued, and dead-lettered, before: their records again.
	var again []bus.Message
	for _, r := range queued {
		if slices.Contains([]string{"inbound.slack", "inbound.sms", "fetch.slack", "fetch.sms", "outbound.slack", "outbound.sms"}, r.Topic) {
			again = append(again, bus.Message{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
		}
		if m, ok := revived(r); ok {
			again = append(again, m)
		}
	}
	check(t, w.produce(ctx, again...))
	nobodyNew("when the records of before come again")

	// Spooled before: the segments lie in the spool again.
	check(t, w.Stop(ctx), respool(spooled), w.Start(ctx))
	within(t, 20*time.Second, func() error {
		left, err := w.Metric(ctx, "tributary_spool_bytes", `part="segments"`)
		if err == nil && left > 0 {
			err = fmt.Errorf("%.0f bytes are in the spool", left)
		}
		return err
	})
	nobodyNew("when what was spooled comes")

	// Webhooks again, and what follows from what was before: receipts, profiles, an opt-out told by the provider.
	check(t, anna.again(ctx), carla.again(ctx))
	nobodyNew("when the webhooks are sent again")
	callback := mustQuery(t, post.StatusCallback)
	for _, status := range [][2]string{{"delivered", ""}, {"undelivered", "21610"}} {
		check(t, carla.form(ctx, callback, standin.TwilioStatus(accountSID, post, status[0], status[1])),
			carla.form(ctx, "", standin.TwilioStatus(accountSID, post, status[0], status[1])))
	}
	check(t, anna.tell(ctx, map[string]any{"type": "user_change", "event_ts": anna.stamp(),
		"user": map[string]any{"id": anna.user, "team_id": team, "profile": map[string]any{"real_name": anna.name}}}),
		anna.tell(ctx, map[string]any{"type": "member_joined_channel", "user": anna.user, "team": team, "channel": "C0001", "event_ts": anna.stamp()}))
	nobodyNew("when receipts and profiles come")

	// The subject that an old webhook without a time has made is swept, and what it sealed opens nowhere.
	check(t, w.restarted(ctx, map[string]string{"TRIBUTARY_REGISTRY_SWEEP_AFTER": "1s"}))
	within(t, 20*time.Second, func() error {
		living, err := w.column(ctx, "registry", "SELECT id FROM subjects WHERE state IN (1, 2)")
		if err == nil && len(living) != 1 {
			err = fmt.Errorf("%d subjects live, not Ben's alone", len(living))
		}
		return err
	})
	check(t, w.Stop(ctx))
	taken, err := takeLoot(ctx, w.Mesh, w.data)
	check(t, err)
	keys, err := w.keyring(ctx, taken)
	check(t, err)
	opened := taken.opens(keys, slices.Concat(anna.needles, carla.needles, []string{words[ben]})...)
	if !opened[words[ben]] {
		t.Error("not even what Ben wrote opens: the check shows nothing")
	}
	if delete(opened, words[ben]); len(opened) > 0 {
		t.Errorf("with every key that there is, this opens: %v", opened)
	}
	check(t, w.Start(ctx))
	nobodyNew("after the sweep")

	// New words make new people.
	for _, g := range []*guest{anna, carla} {
		text := g.words()
		check(t, g.says(ctx, text))
		_, contact, err := w.arrived(ctx, text)
		check(t, err)
		if contact == contacts[g] || contact == "" {
			t.Errorf("who writes after an erasure is %q, and was %q", contact, contacts[g])
		}
	}
}

func mustQuery(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	check(t, err)
	return "?" + u.RawQuery
}
