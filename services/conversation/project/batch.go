package project

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// batch is one transaction over some events. Locks are taken in the order that the schema names.
//
//bound:exempt what follows from one batch of records
type batch struct {
	p   *Projector
	tx  *sqldb.Tx
	now int64
	// began is when this process began with it.
	began time.Time
	// expecting: what most events find is taken for found until the locks answer, in one round trip less.
	expecting bool

	// all events by id, of copies the one with the smallest order.
	all map[string]*event
	// alive are the subjects named that are not gone; their rows are locked.
	alive map[string]store.Subject
	// named are all subjects that are, and unseen the events that no transaction has handled before.
	named  []store.Subject
	unseen map[string]bool
	// mets are what identities come from; those that were remembered may since have come to be from something before.
	mets map[string]store.Met
	// fresh events are handled now for the first time; copies were handled before, and count only if they
	// came earlier.
	fresh, copies []*event
	receipts      []*pb.ChannelEvent
	// conversations are those of the batch's messages, and involved those that its receipts are about; refs are what it
	// calls messages by. Their rows are locked.
	conversations map[string]conversationRow
	involved      map[string]*store.Conversation
	refs          map[store.RefKey]store.Ref
	// changes are the references whose message this batch brings, edits or deletes; amended those of them
	// that it edits.
	changes, amended map[store.RefKey]bool
	// merged are the batch's messages, displaced those that turned out to be echoes, and updated what was
	// there and shows something new.
	merged    map[string]*message
	displaced []string
	updated   map[string]bool
	// moved conversations have a message whose order has changed.
	moved   map[string]bool
	entries []store.Entry
	// locked is where the outbox ended once the last lock was taken; 0: not known.
	locked int64
	turn   *store.Turn
	counts map[counted]int64
}

type counted struct {
	typ    pb.EventType
	result string
}

func newBatch(p *Projector, tx *sqldb.Tx, events []*event, expecting bool) *batch {
	b := &batch{p: p, tx: tx, now: p.clock.NowMicros(), began: time.Now(), expecting: expecting, turn: p.outbox.Turn(),
		all: map[string]*event{}, unseen: map[string]bool{}, mets: map[string]store.Met{}, moved: map[string]bool{}, updated: map[string]bool{},
		changes: map[store.RefKey]bool{}, amended: map[store.RefKey]bool{}, counts: map[counted]int64{}}
	for _, e := range events {
		if other, ok := b.all[e.GetId()]; ok {
			b.count(e, "seen")
			if !earlier(e, other) {
				continue
			}
		}
		b.all[e.GetId()] = &event{ChannelEvent: e.ChannelEvent, trace: e.trace}
	}
	return b
}

// earlier: of two copies of an event whose order is the time of receipt, the smaller counts.
func earlier(e, other *event) bool {
	return e.GetOrderReceived() && e.GetOrderUs() < other.GetOrderUs()
}

func (b *batch) count(e *event, result string) { b.counts[counted{e.GetType(), result}]++ }

func (b *batch) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		b.lockSubjects, b.dedupe, b.keepUnknown,
		b.contacts, b.profiles, b.consents, b.commerce,
		b.lockConversations, b.participants, b.revocations,
		b.lockRefs, b.amendments, b.displace, b.lowerAmendments, b.messages, b.lowerMessages,
		b.sendingOutcomes,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := store.Bounds(ctx, b.tx, slices.Sorted(maps.Keys(b.moved))); err != nil {
		return err
	}
	if b.expecting && len(b.updated) == 0 && !b.anyClaimed() { // nobody whose locks are held is hidden, and nobody else is told of
		b.turn.Shown = b.began
	}
	return store.AppendBehind(ctx, b.tx, b.turn, b.locked, b.now, b.entries...)
}

// lockSubjects locks everybody who is named, as far as they are not gone; dedupe sends it.
func (b *batch) lockSubjects(ctx context.Context) error {
	add := func(workspace, id, key string) {
		if id != "" {
			b.named = append(b.named, store.Subject{ID: id, Workspace: workspace, KeyID: key})
		}
	}
	for _, e := range b.all {
		add(e.GetWorkspaceId(), e.GetAuthorSubject(), "")
		add(e.GetWorkspaceId(), e.GetContactSubject(), "")
		for _, part := range e.GetParts() {
			add(e.GetWorkspaceId(), part.GetSubjectId(), part.GetKeyId())
		}
		for _, a := range e.GetAttachments() {
			add(e.GetWorkspaceId(), a.GetKey().GetSubjectId(), a.GetKey().GetKeyId())
		}
	}
	var err error
	if b.alive, err = store.QueueSubjects(ctx, b.tx, b.named); err != nil {
		return err
	}
	var others []string
	for _, s := range b.named {
		if _, looked := b.mets[s.ID]; !looked {
			if m, ok := b.p.mets.get(s.ID); ok {
				b.mets[s.ID] = m
			} else {
				others = append(others, s.ID)
			}
		}
	}
	slices.Sort(others)
	return store.QueueMets(ctx, b.tx, slices.Compact(others), func(subject string, m store.Met) { b.mets[subject] = m })
}

func (b *batch) gone(subject string) bool {
	_, alive := b.alive[subject]
	return subject != "" && !alive && !b.expecting
}

// dedupe remembers every event's id, also of those that are dropped, and tells fresh ones from copies. It drops what
// is of the gone: a whole event where its author or its one-to-one partner is, else their parts.
func (b *batch) dedupe(ctx context.Context) error {
	ids := slices.Sorted(maps.Keys(b.all))
	rows := make([][]any, len(ids))
	for i, id := range ids {
		rows[i] = []any{id, b.now}
	}
	if err := sqldb.QueueRows(ctx, b.tx, "seen_events", []string{"id", "at_us"}, rows, "ON CONFLICT (id) DO NOTHING RETURNING id",
		func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			b.unseen[id] = true
			return err
		}); err != nil {
		return err
	}
	var revived, strange map[string]bool
	if !b.expects() {
		err := b.tx.Send(ctx)
		if err != nil {
			return err
		}
		if revived, strange, err = b.revive(ctx, slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return b.unseen[id] })); err != nil {
			return err
		}
	}
	var lost []string
	for _, id := range ids {
		e := b.all[id]
		switch {
		case b.gone(e.GetAuthorSubject()) || b.gone(e.GetContactSubject()) || strange[id]:
			b.count(e, "gone")
			lost = append(lost, objects(e)...)
		case !b.unseen[id] && !revived[id] && !b.expecting:
			b.count(e, "seen")
			if e.GetOrderReceived() {
				b.copies = append(b.copies, e)
			}
		case e.GetType() == pb.EventType_EVENT_TYPE_ERASED:
			b.count(e, "gone")
		default:
			b.count(e, "new")
			lost = append(lost, b.cut(e)...)
			b.fresh = append(b.fresh, e)
			if e.GetType() == pb.EventType_EVENT_TYPE_RECEIPT {
				b.receipts = append(b.receipts, e.ChannelEvent)
			}
		}
	}
	slices.SortFunc(b.fresh, func(a, o *event) int {
		return cmp.Or(cmp.Compare(a.GetOrderUs(), o.GetOrderUs()), cmp.Compare(a.GetId(), o.GetId()))
	})
	return store.DeleteObjects(ctx, b.tx, b.now, lost)
}

// cut takes the parts of the gone out of an event, and gives the objects that nobody can read any more. The
// transaction may be run again, with the event as it came.
func (b *batch) cut(e *event) (lost []string) {
	if !slices.ContainsFunc(e.Parts, func(part *pb.SealedPart) bool { return b.gone(part.GetSubjectId()) }) &&
		!slices.ContainsFunc(e.Attachments, func(a *pb.AttachmentRef) bool { return b.gone(a.GetKey().GetSubjectId()) }) {
		return nil
	}
	e.ChannelEvent = proto.CloneOf(e.ChannelEvent)
	e.Parts = slices.DeleteFunc(e.Parts, func(part *pb.SealedPart) bool { return b.gone(part.GetSubjectId()) })
	e.Attachments = slices.DeleteFunc(e.Attachments, func(a *pb.AttachmentRef) bool {
		if !b.gone(a.GetKey().GetSubjectId()) {
			return false
		}
		lost = append(lost, a.GetObject())
		return true
	})
	return lost
}

func objects(e *event) (keys []string) {
	if e.GetType() == pb.EventType_EVENT_TYPE_ATTACHMENT {
		for _, a := range e.GetAttachments() {
			keys = append(keys, a.GetObject())
		}
	}
	return keys
}

// keepUnknown keeps events of types that this version does not know as they came, and requests of privacy law, which it does
// not carry out.
func (b *batch) keepUnknown(ctx context.Context) error {
	var rows [][]any
	for _, e := range b.fresh {
		if known(e.GetType()) {
			continue
		}
		if e.GetType() != pb.EventType_EVENT_TYPE_PRIVACY {
			b.count(e, "unknown")
		}
		raw, err := proto.Marshal(e.ChannelEvent)
		if err != nil {
			return err
		}
		subject := e.GetAuthorSubject()
		if subject == "" {
			subject = e.GetContactSubject()
		}
		rows = append(rows, []any{e.GetId(), e.GetWorkspaceId(), e.GetConversationKey(), subject, int32(e.GetType()), e.GetOrderUs(), raw})
	}
	return sqldb.QueueRows(ctx, b.tx, "unknown_events",
		[]string{"id", "workspace_id", "conversation_id", "subject_id", "type", "order_us", "event"}, rows, "ON CONFLICT (id) DO NOTHING", nil)
}

// of gives the fresh events of a type.
func (b *batch) of(types ...pb.EventType) func(yield func(*event) bool) {
	return func(yield func(*event) bool) {
		for _, e := range b.fresh {
			if slices.Contains(types, e.GetType()) && !yield(e) {
				return
			}
		}
	}
}

// part of a category, or nil.
func (e *event) part(category pb.Category) *pb.SealedPart {
	for _, part := range e.GetParts() {
		if part.GetCategory() == category {
			return part
		}
	}
	return nil
}

// partOf gives the part of a category that a subject seals, or nil.
func (e *event) partOf(subject string, category pb.Category) *pb.SealedPart {
	for _, part := range e.GetParts() {
		if part.GetCategory() == category && part.GetSubjectId() == subject {
			return part
		}
	}
	return nil
}

// sendingOutcomes hands the receipts to sending.
func (b *batch) sendingOutcomes(ctx context.Context) error {
	if len(b.receipts) == 0 && !b.anyClaimed() {
		return nil
	}
	b.locked = 0 // it locks more
	entries, err := b.p.sending.Apply(ctx, b.tx, b.receipts, b.involved, b.refs)
	b.entries = append(b.entries, entries...)
	return err
}

// anyClaimed: a reference that somebody may have waited for has its message.
func (b *batch) anyClaimed() bool {
	for _, ref := range b.refs {
		if ref.Message != "" && !ref.New {
			return true
		}
	}
	return false
}

// tell adds an entry for what happened to a message.
func (b *batch) tell(e *event, typ, conversation, contact, message string, direction pb.Direction, order int64) {
	b.entries = append(b.entries, store.Told(&pb.ConversationEvent{Type: typ, WorkspaceId: e.GetWorkspaceId(), ConversationId: conversation,
		ContactId: contact, MessageId: message, Direction: direction, OrderUs: order}, e.trace))
}
