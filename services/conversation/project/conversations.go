package project

import (
	"context"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// conversation is what a batch's messages say of one.
type conversation struct {
	e                        *event
	thread                   string
	first, last, lastInbound int64
}

// takesContact: a contact that an event names comes before one that stands in, and of those the smallest counts, so that
// the order of arrival does not.
const takesContact = `excluded.contact_id <> '' AND (conversations.contact_id = '' OR excluded.contact_named > conversations.contact_named
	OR excluded.contact_named = 0 AND conversations.contact_named = 0 AND excluded.contact_id < conversations.contact_id)`

// partner is the subject that an event is one-to-one with: the contact that it names, else who wrote. Who answers to a
// signed address names the conversation alone: they may write from another address than its contact's.
func partner(e *event) string {
	switch {
	case e.GetThread().GetGroup():
		return ""
	case e.GetContactSubject() == "" && e.GetDirection() == pb.Direction_DIRECTION_INBOUND:
		return e.GetAuthorSubject()
	}
	return e.GetContactSubject()
}

// answers tells whether a message says more of the conversation's contact than what is known of it so far.
func (c *conversation) answers(m *message) bool {
	was, is := partner(c.e), partner(m.e)
	switch {
	case is == "" || was == is && c.e.GetContactSubject() != "":
		return false
	case was == "" || m.e.GetContactSubject() != "" && c.e.GetContactSubject() == "":
		return true
	}
	return m.e.GetContactSubject() == c.e.GetContactSubject() && channel.ContactID(is) < channel.ContactID(was)
}

// conversationRow is what is to be known of a conversation's row to tell of its messages.
type conversationRow struct {
	contact string
	frozen  bool
}

// lockConversations upserts the conversations of the batch's messages, with what those add to them, and
// locks those that receipts and consents are about. The first are known once lockRefs has sent it.
func (b *batch) lockConversations(ctx context.Context) error {
	named := map[string]*conversation{}
	for _, m := range b.written() {
		c := named[m.conversation]
		if c == nil {
			c = &conversation{e: m.e, first: m.order}
			named[m.conversation] = c
		}
		if c.answers(m) {
			c.e = m.e
		}
		c.thread = smallest(c.thread, m.thread)
		c.first, c.last = min(c.first, m.order), max(c.last, m.order)
		if m.direction == inward {
			c.lastInbound = max(c.lastInbound, m.order)
		}
	}
	rows := make([][]any, 0, len(named))
	for id, c := range named {
		e := c.e
		subject, contact, contactNamed, group, frozen := partner(e), "", 0, 0, 0
		if e.GetThread().GetGroup() {
			group = 1
		}
		if subject != "" {
			contact = channel.ContactID(subject)
			if b.alive[subject].Frozen {
				frozen = 1
			}
		}
		if subject == e.GetContactSubject() {
			contactNamed = 1
		}
		rows = append(rows, []any{id, e.GetWorkspaceId(), e.GetChannel(), e.GetConnectionId(), contact, subject, contactNamed, c.thread,
			group, c.first, c.last, c.lastInbound, frozen})
	}
	store.SortRows(rows)
	b.conversations = make(map[string]conversationRow, len(rows))
	err := sqldb.QueueRows(ctx, b.tx, "conversations", []string{"id", "workspace_id", "channel", "connection_id", "contact_id",
		"contact_subject", "contact_named", "thread_id", "is_group", "first_us", "last_us", "last_inbound_us", "frozen"}, rows,
		`ON CONFLICT (id) DO UPDATE SET
		contact_id = CASE WHEN `+takesContact+` THEN excluded.contact_id ELSE conversations.contact_id END,
		contact_subject = CASE WHEN `+takesContact+` THEN excluded.contact_subject ELSE conversations.contact_subject END,
		contact_named = CASE WHEN `+takesContact+` THEN excluded.contact_named ELSE conversations.contact_named END,
		frozen = CASE WHEN `+takesContact+` THEN excluded.frozen ELSE conversations.frozen END,
		thread_id = CASE WHEN conversations.thread_id = '' OR (excluded.thread_id <> '' AND excluded.thread_id < conversations.thread_id)
			THEN excluded.thread_id ELSE conversations.thread_id END,
		first_us = CASE WHEN conversations.first_us = 0 OR excluded.first_us < conversations.first_us
			THEN excluded.first_us ELSE conversations.first_us END,
		last_us = CASE WHEN excluded.last_us > conversations.last_us THEN excluded.last_us ELSE conversations.last_us END,
		last_inbound_us = CASE WHEN excluded.last_inbound_us > conversations.last_inbound_us
			THEN excluded.last_inbound_us ELSE conversations.last_inbound_us END
		RETURNING id, contact_id, frozen`, func(row sqldb.Row) error {
			var id string
			var c conversationRow
			var frozen int
			err := row.Scan(&id, &c.contact, &frozen)
			c.frozen = frozen == 1
			b.conversations[id] = c
			return err
		})
	if err != nil {
		return err
	}
	return b.lockInvolved(ctx)
}

// lockInvolved locks the conversations of receipts, and those of people who opted out: their queued parts
// are to be looked at.
func (b *batch) lockInvolved(ctx context.Context) error {
	involved, err := b.p.sending.Involved(ctx, b.tx, b.receipts)
	if err != nil {
		return err
	}
	if b.involved, err = store.LockConversations(ctx, b.tx, involved); err != nil {
		return err
	}
	var optedOut []string
	for e := range b.of(pb.EventType_EVENT_TYPE_CONSENT) {
		if e.GetConsent().GetAction() == "opt_out" {
			optedOut = append(optedOut, channel.ContactID(e.GetAuthorSubject()))
		}
	}
	for _, chunk := range store.Chunks(optedOut) {
		list, args := sqldb.In(1, chunk)
		if _, err := b.tx.ExecContext(ctx, "UPDATE conversations SET next_us = 1, parked = 0 WHERE contact_id IN ("+list+") AND next_us > 0", args...); err != nil {
			return err
		}
	}
	return nil
}

// participants notes who writes in groups.
func (b *batch) participants(ctx context.Context) error {
	unique := map[[2]string]bool{}
	for e := range b.of(pb.EventType_EVENT_TYPE_MESSAGE) {
		if e.GetThread().GetGroup() && e.GetAuthorSubject() != "" {
			unique[[2]string{e.GetConversationKey(), e.GetAuthorSubject()}] = true
		}
	}
	rows := make([][]any, 0, len(unique))
	for of := range unique {
		rows = append(rows, []any{of[0], of[1]})
	}
	store.SortRows(rows)
	return sqldb.QueueRows(ctx, b.tx, "participants", []string{"conversation_id", "subject_id"}, rows, "ON CONFLICT (conversation_id, subject_id) DO NOTHING", nil)
}

// revocations close a connection to sending until it was changed after them.
func (b *batch) revocations(ctx context.Context) error {
	revoked := map[string]int64{}
	for e := range b.of(pb.EventType_EVENT_TYPE_REVOCATION) {
		revoked[e.GetConnectionId()] = max(revoked[e.GetConnectionId()], e.GetOrderUs())
	}
	rows := make([][]any, 0, len(revoked))
	for connection, order := range revoked {
		rows = append(rows, []any{connection, order})
	}
	store.SortRows(rows)
	return sqldb.QueueRows(ctx, b.tx, "connection_slots", []string{"connection_id", "revoked_us"}, rows,
		`ON CONFLICT (connection_id) DO UPDATE SET revoked_us = excluded.revoked_us WHERE excluded.revoked_us > connection_slots.revoked_us`, nil)
}

// smallest of two texts that is not empty.
func smallest(a, b string) string {
	if a == "" || b != "" && b < a {
		return b
	}
	return a
}
