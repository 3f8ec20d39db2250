package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// group: of two people in one Slack channel one is erased. Their words, name and reactions go; what the other
// wrote stays, and is the other's.
func provesOneOfTwoErased(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	root := ben.stamp()
	bens, annas := []string{ben.words(), ben.words()}, []string{anna.words(), anna.words()}
	first, second := ben.stamp(), ben.stamp()
	check(t, ben.tell(ctx, standin.SlackMessage("C0ROOM", "channel", ben.user, root, "", bens[0])),
		anna.tell(ctx, standin.SlackMessage("C0ROOM", "channel", anna.user, first, root, annas[0])),
		anna.tell(ctx, standin.SlackMessage("C0ROOM", "channel", anna.user, second, root, annas[1])),
		anna.tell(ctx, standin.SlackReaction("C0ROOM", anna.user, root, ben.stamp(), "wave", false)),
		ben.tell(ctx, standin.SlackReaction("C0ROOM", ben.user, first, ben.stamp(), "tada", false)),
		ben.tell(ctx, standin.SlackMessage("C0ROOM", "channel", ben.user, ben.stamp(), root, bens[1])))
	conversation, _, err := w.arrived(ctx, annas[1])
	check(t, err)
	var contact string
	within(t, 20*time.Second, func() error {
		messages, err := w.all(ctx, "/v1/conversations/"+conversation+"/messages")
		if err != nil || len(messages) != 4 {
			return errors.Join(err, fmt.Errorf("%d messages", len(messages)))
		}
		for _, m := range messages {
			if m.Text("text") == annas[0] {
				sender, _ := m["sender"].(map[string]any)
				contact = mesh.Object(sender).Text("contact_id")
			}
		}
		return w.Drained(ctx)
	})
	id, err := w.erase(ctx, contact)
	check(t, err, w.completed(ctx, id, 20*time.Second))
	left := w.must(t, "GET", "/v1/conversations/"+conversation+"/messages?order=asc", nil, 200).List("items")
	if len(left) != 2 || left[0].Text("text") != bens[0] || left[1].Text("text") != bens[1] || len(left[0].List("reactions")) != 0 {
		t.Errorf("left in the channel: %v", left)
	}
	check(t, w.shows(ctx, anna.needles), anna.again(ctx))
	within(t, 20*time.Second, func() error { return w.Drained(ctx) })
	check(t, w.shows(ctx, anna.needles))
	if contacts, err := w.contacts(ctx); err != nil || len(contacts) != 1 {
		t.Errorf("%d contacts are left: %v", len(contacts), err)
	}
}

// destroy: what was sealed and saved before no longer opens with any key that the registry gives; a bystander's
// does.
func provesDestroyed(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	words, bens := anna.words(), ben.words()
	check(t, anna.says(ctx, words), ben.says(ctx, bens))
	_, contact, err := w.arrived(ctx, words)
	check(t, err)
	_, _, err = w.arrived(ctx, bens)
	check(t, err)
	open := func(saved *loot) map[string]bool {
		t.Helper()
		now, err := takeLoot(ctx, w.Mesh, w.data)
		check(t, err)
		keys, err := w.keyring(ctx, &loot{wrapped: now.wrapped})
		check(t, err)
		return saved.opens(keys, append(slices.Clone(anna.needles), bens)...)
	}
	saved, err := takeLoot(ctx, w.Mesh, w.data)
	check(t, err)
	if opened := open(saved); !opened[words] || !opened[bens] {
		t.Errorf("before, not even this opens: %v", opened)
	}
	id, err := w.erase(ctx, contact)
	check(t, err, w.completed(ctx, id, 20*time.Second))
	if opened := open(saved); len(opened) != 1 || !opened[bens] {
		t.Errorf("afterwards there open %v", opened)
	}
}
