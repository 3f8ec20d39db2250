package project

import (
	"context"
	"maps"
	"slices"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// identity is how a subject is known on a channel, as an event tells it.
type identity struct {
	subject string
	met     store.Met
	e       *event
	kind    string
	part    *pb.SealedPart
}

// identities named by an event: its author and its one-to-one partner.
func (b *batch) identities(e *event) []identity {
	var named []identity
	for _, subject := range []string{e.GetAuthorSubject(), e.GetContactSubject()} {
		if subject == "" || len(named) > 0 && named[0].subject == subject {
			continue
		}
		i := identity{subject: subject, e: e, met: store.Met{OrderUS: e.GetOrderUs(), Event: e.GetId()}}
		if subject == e.GetAuthorSubject() {
			i.kind = e.GetIdentityKind()
		}
		if f, ok := channel.Lookup(e.GetChannel()); ok && i.kind == "" {
			i.kind = f.IdentityKind
		}
		if e.GetType() != pb.EventType_EVENT_TYPE_PROFILE {
			i.part = e.partOf(subject, pb.Category_CATEGORY_PROFILE)
			i.met.Named = i.part.GetCiphertext() != nil
		}
		named = append(named, i)
	}
	return named
}

const (
	earlierContact  = "contacts.created_us > excluded.created_us"
	earlierIdentity = `(identities.ciphertext IS NULL AND excluded.ciphertext IS NOT NULL)
		OR ((identities.ciphertext IS NULL) = (excluded.ciphertext IS NULL) AND (excluded.order_us < identities.order_us
			OR (excluded.order_us = identities.order_us AND excluded.event_id < identities.event_id)))`
)

// contacts upserts the contact and identity of everybody who acted or was written to. A copy, which may
// have been received earlier, amends them and makes none: the person that the first one was of may have
// been erased since, and a copy of what they did must not bring them back under another subject.
func (b *batch) contacts(ctx context.Context) error {
	isNoAct := func(e *event) bool { return !isAct(e) }
	acts := slices.DeleteFunc(slices.Clone(b.fresh), isNoAct)
	if err := b.contactsOf(ctx, acts); err != nil {
		return err
	}
	copies := slices.DeleteFunc(slices.Clone(b.copies), isNoAct)
	known, err := b.haveContacts(ctx, copies)
	if err != nil {
		return err
	}
	return b.contactsOf(ctx, slices.DeleteFunc(copies, func(e *event) bool {
		return slices.ContainsFunc(b.identities(e), func(i identity) bool { return !known[i.subject] })
	}))
}

// haveContacts tells which of the subjects that events name have a contact: also one that another transaction
// made while this one waited for the subject's row.
func (b *batch) haveContacts(ctx context.Context, events []*event) (map[string]bool, error) {
	known, others := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		for _, i := range b.identities(e) {
			if _, known[i.subject] = b.mets[i.subject]; !known[i.subject] {
				others[i.subject] = true
			}
		}
	}
	for _, chunk := range store.Chunks(slices.Sorted(maps.Keys(others))) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, "SELECT subject_id FROM contacts WHERE subject_id IN ("+list+")", args, func(rows sqldb.Row) error {
			var subject string
			err := rows.Scan(&subject)
			known[subject] = true
			return err
		}); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// isAct: the person did it, or was written to. What follows from events (receipts, profiles, fetched media)
// makes no contact, and neither does an opt-out, of which a provider tells in a receipt, what a shop does about an
// order, or what is asked by privacy law.
func isAct(e *event) bool {
	switch e.GetType() {
	case pb.EventType_EVENT_TYPE_RECEIPT, pb.EventType_EVENT_TYPE_PROFILE, pb.EventType_EVENT_TYPE_ATTACHMENT,
		pb.EventType_EVENT_TYPE_PRIVACY:
		return false
	case pb.EventType_EVENT_TYPE_COMMERCE:
		return e.GetCommerce().GetParent() == ""
	case pb.EventType_EVENT_TYPE_CONSENT:
		return e.GetConsent().GetAction() == "opt_in"
	}
	return true
}

// contactsOf upserts what differs from what stands, which little of what people do does. A contact was created
// no later than what its identity came from, and both go with their subject, whose row is locked.
func (b *batch) contactsOf(ctx context.Context, events []*event) error {
	first, created := map[string]identity{}, map[string]*event{}
	for _, e := range events {
		for _, i := range b.identities(e) {
			met, known := b.mets[i.subject]
			if old, ok := first[i.subject]; (!ok || i.met.Before(old.met)) && (!known || i.met.Before(met)) {
				first[i.subject] = i
			}
			if old, ok := created[i.subject]; (!ok || e.GetOrderUs() < old.GetOrderUs()) && (!known || e.GetOrderUs() < met.OrderUS) {
				created[i.subject] = e
			}
		}
	}
	var contacts, identities [][]any
	for subject, e := range created {
		frozen := 0
		if b.alive[subject].Frozen {
			frozen = 1
		}
		contacts = append(contacts, []any{channel.ContactID(subject), e.GetWorkspaceId(), subject, e.GetOrderUs(), frozen})
	}
	for _, i := range first {
		b.mets[i.subject] = i.met
		identities = append(identities, i.row())
	}
	store.SortRows(contacts)
	store.SortRows(identities)
	if err := sqldb.QueueRows(ctx, b.tx, "contacts", []string{"id", "workspace_id", "subject_id", "created_us", "frozen"}, contacts,
		"ON CONFLICT (id) DO UPDATE SET created_us = excluded.created_us WHERE "+earlierContact+" RETURNING id, subject_id",
		func(rows sqldb.Row) error {
			var id, subject string
			if err := rows.Scan(&id, &subject); err != nil {
				return err
			}
			b.tellContact(created[subject], id, subject)
			return nil
		}); err != nil {
		return err
	}
	return sqldb.QueueRows(ctx, b.tx, "identities", identityColumns, identities, `ON CONFLICT (subject_id) DO UPDATE SET
		channel = excluded.channel, connection_id = excluded.connection_id, kind = excluded.kind, key_id = excluded.key_id,
		ciphertext = excluded.ciphertext, order_us = excluded.order_us, event_id = excluded.event_id WHERE `+earlierIdentity, nil)
}

var identityColumns = []string{"subject_id", "workspace_id", "contact_id", "channel", "connection_id", "kind", "key_id", "ciphertext", "order_us", "event_id"}

func (i identity) row() []any {
	return []any{i.subject, i.e.GetWorkspaceId(), channel.ContactID(i.subject), i.e.GetChannel(), i.e.GetConnectionId(), i.kind,
		i.part.GetKeyId(), i.part.GetCiphertext(), i.met.OrderUS, i.met.Event}
}

// tellContact publishes which subjects a contact id means.
func (b *batch) tellContact(e *event, contact, subject string) {
	b.entries = append(b.entries,
		store.Entry{Topic: store.TopicContacts, Key: contact, Type: "contact", Workspace: e.GetWorkspaceId(), Traceparent: e.trace,
			Payload: &pb.ContactRecord{Id: contact, WorkspaceId: e.GetWorkspaceId(), SubjectIds: []string{subject},
				Closed: b.alive[subject].Frozen}})
	if !b.alive[subject].Frozen {
		b.tell(e, "contact.updated", "", contact, "", 0, e.GetOrderUs())
	}
}

// profiles keeps what profile events say; readers take the newest.
func (b *batch) profiles(ctx context.Context) error {
	var rows [][]any
	for e := range b.of(pb.EventType_EVENT_TYPE_PROFILE) {
		if part := e.partOf(e.GetAuthorSubject(), pb.Category_CATEGORY_PROFILE); part != nil {
			rows = append(rows, []any{e.GetAuthorSubject(), e.GetId(), e.GetWorkspaceId(), e.GetOrderUs(), part.GetKeyId(), part.GetCiphertext()})
			if !b.alive[e.GetAuthorSubject()].Frozen {
				b.tell(e, "contact.updated", "", channel.ContactID(e.GetAuthorSubject()), "", 0, e.GetOrderUs())
			}
		}
	}
	store.SortRows(rows)
	return sqldb.QueueRows(ctx, b.tx, "profiles", []string{"subject_id", "event_id", "workspace_id", "order_us", "key_id", "ciphertext"},
		rows, "ON CONFLICT (subject_id, event_id) DO NOTHING", nil)
}

// consents keeps what people said of being written to. What is queued for somebody who opts out is ended
// by sending, which looks at it once more.
func (b *batch) consents(ctx context.Context) error {
	var rows [][]any
	for e := range b.of(pb.EventType_EVENT_TYPE_CONSENT) {
		wide := 0
		if e.GetConsent().GetWorkspaceWide() {
			wide = 1
		}
		rows = append(rows, []any{e.GetId(), e.GetWorkspaceId(), e.GetAuthorSubject(), e.GetConnectionId(), e.GetChannel(),
			e.GetConsent().GetAction(), e.GetConsent().GetSource(), wide, e.GetOrderUs()})
	}
	return sqldb.QueueRows(ctx, b.tx, "consents", []string{"event_id", "workspace_id", "subject_id", "connection_id", "channel", "action",
		"source", "workspace_wide", "order_us"}, rows, "ON CONFLICT (event_id) DO NOTHING", nil)
}
