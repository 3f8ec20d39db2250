package project

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Directions as they are stored.
const (
	inward  = "inbound"
	outward = "outbound"
)

// editRank is above every event's own content.
const editRank = 1000

// message is a message's row, as far as events decide it. Merging is commutative, associative and
// idempotent.
type message struct {
	id, workspace, conversation, connection string
	direction, author, source               string
	automated                               bool
	headRank                                int
	headEvent                               string
	order                                   int64
	external, replyTo                       string
	content                                 content
	editedUS, deletedUS                     int64

	// Not stored: an event that said so, and its thread.
	e      *event
	thread string
}

// content is sealed with OriginContent(id, order).
type content struct {
	subject, key string
	ciphertext   []byte
	id           string
	order        int64
	rank         int
	event        string
}

// precedence of a provider's event type: two events of one message fill each other's fields in, and the
// higher one's count where both have them.
func precedence(sourceType string) int {
	if sourceType == "app_mention" { // Slack's second event of a message; it lacks files
		return 1
	}
	return 2
}

func messageOf(e *event) *message {
	m := &message{id: e.GetMessageId(), workspace: e.GetWorkspaceId(), conversation: e.GetConversationKey(), connection: e.GetConnectionId(),
		direction: inward, author: e.GetAuthorSubject(), source: e.GetSourceType(), automated: e.GetAutomated(),
		headRank: precedence(e.GetSourceType()), headEvent: e.GetId(), order: e.GetOrderUs(), external: e.GetExternalId(),
		replyTo: e.GetReplyToExternalId(), e: e, thread: e.GetThread().GetId()}
	if e.GetDirection() == pb.Direction_DIRECTION_OUTBOUND {
		m.direction = outward
	}
	m.content = contentOf(e, m.headRank)
	return m
}

func contentOf(e *event, rank int) content {
	part := e.part(pb.Category_CATEGORY_CONTENT)
	if part == nil {
		return content{}
	}
	return content{subject: part.GetSubjectId(), key: part.GetKeyId(), ciphertext: part.GetCiphertext(), id: e.GetMessageId(),
		order: e.GetOrderUs(), rank: rank, event: e.GetId()}
}

func (m *message) merge(o *message) {
	if cmp.Or(cmp.Compare(o.headRank, m.headRank), cmp.Compare(o.headEvent, m.headEvent)) > 0 {
		m.direction, m.author, m.source, m.headRank, m.headEvent = o.direction, o.author, o.source, o.headRank, o.headEvent
		m.conversation = o.conversation
	}
	if cmp.Or(cmp.Compare(o.content.rank, m.content.rank), cmp.Compare(o.content.event, m.content.event)) > 0 {
		m.content = o.content
	}
	m.order, m.automated = min(m.order, o.order), m.automated || o.automated
	m.replyTo, m.thread = smallest(m.replyTo, o.replyTo), smallest(m.thread, o.thread)
}

func (m *message) key() store.RefKey {
	return store.RefKey{Connection: m.connection, External: m.external}
}

// written are the batch's messages, the events of each merged.
func (b *batch) written() map[string]*message {
	if b.merged == nil {
		b.merged = map[string]*message{}
		for e := range b.of(pb.EventType_EVENT_TYPE_MESSAGE) {
			m := messageOf(e)
			if old := b.merged[m.id]; old != nil {
				old.merge(m)
			} else {
				b.merged[m.id] = m
			}
		}
	}
	return b.merged
}

// messages writes the batch's messages, and those that its edits and deletions change.
func (b *batch) messages(ctx context.Context) error {
	touched := map[string]bool{} // what is not new
	for key, ref := range b.refs {
		if ref.Message != "" && b.changes[key] && (!ref.New || b.amended[key]) {
			touched[ref.Message] = true
		}
	}
	before, err := b.load(ctx, slices.Sorted(maps.Keys(touched)))
	if err != nil {
		return err
	}
	after := map[string]*message{}
	for id, m := range b.written() {
		if ref := b.refs[m.key()]; ref.Message != id {
			b.count(m.e, "echo") // of our own: it is there already
			b.moved[m.conversation] = true
			continue
		}
		after[id] = m
		if old := before[id]; old != nil {
			merged := *old
			merged.e = m.e
			merged.merge(m)
			after[id] = &merged
			if merged.order != m.order { // its conversation was extended to this event's
				b.moved[merged.conversation] = true
			}
		}
	}
	for id, old := range before {
		if after[id] == nil {
			same := *old
			after[id] = &same
		}
	}
	if err := b.delete(ctx, after); err != nil {
		return err
	}
	if err := b.edit(ctx, after, slices.Sorted(maps.Keys(touched))); err != nil {
		return err
	}
	return b.save(ctx, before, after)
}

const messageColumns = `id, workspace_id, conversation_id, connection_id, direction, author_subject, source_type, automated, head_rank,
	head_event, order_us, external_id, reply_to, content_subject, content_key, ciphertext, content_id, content_order, content_rank,
	content_event, edited_us, deleted_us`

func (b *batch) load(ctx context.Context, ids []string) (map[string]*message, error) {
	found := map[string]*message{}
	for _, chunk := range store.Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, "SELECT "+messageColumns+" FROM messages WHERE id IN ("+list+")", args, func(rows sqldb.Row) error {
			var m message
			var automated int
			err := rows.Scan(&m.id, &m.workspace, &m.conversation, &m.connection, &m.direction, &m.author, &m.source, &automated, &m.headRank,
				&m.headEvent, &m.order, &m.external, &m.replyTo, &m.content.subject, &m.content.key, &m.content.ciphertext, &m.content.id,
				&m.content.order, &m.content.rank, &m.content.event, &m.editedUS, &m.deletedUS)
			m.automated = automated == 1
			found[m.id] = &m
			return err
		}); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// save writes what differs, and tells of it.
func (b *batch) save(ctx context.Context, before, after map[string]*message) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(after)) {
		m, old := after[id], before[id]
		if old != nil && m.same(old) {
			continue
		}
		automated := 0
		if m.automated {
			automated = 1
		}
		rows = append(rows, []any{m.id, m.workspace, m.conversation, m.connection, m.direction, m.author, m.source, automated, m.headRank,
			m.headEvent, m.order, m.external, m.replyTo, m.content.subject, m.content.key, m.content.ciphertext, m.content.id,
			m.content.order, m.content.rank, m.content.event, m.editedUS, m.deletedUS})
		if old != nil && (m.order != old.order || m.conversation != old.conversation) {
			b.moved[m.conversation], b.moved[old.conversation] = true, true
		}
		if old == nil {
			b.told(m, "message.created")
		} else {
			b.updated[id] = true
		}
	}
	if err := sqldb.QueueRows(ctx, b.tx, "messages", []string{messageColumns}, rows, `ON CONFLICT (id) DO UPDATE SET
		conversation_id = excluded.conversation_id, direction = excluded.direction, author_subject = excluded.author_subject,
		source_type = excluded.source_type, automated = excluded.automated, head_rank = excluded.head_rank, head_event = excluded.head_event,
		order_us = excluded.order_us, reply_to = excluded.reply_to, content_subject = excluded.content_subject,
		content_key = excluded.content_key, ciphertext = excluded.ciphertext, content_id = excluded.content_id,
		content_order = excluded.content_order, content_rank = excluded.content_rank, content_event = excluded.content_event,
		edited_us = excluded.edited_us, deleted_us = excluded.deleted_us`, nil); err != nil {
		return err
	}
	return b.tellUpdated(ctx)
}

// same: nothing that is stored differs.
func (m *message) same(o *message) bool {
	return m.conversation == o.conversation && m.headEvent == o.headEvent && m.order == o.order && m.automated == o.automated &&
		m.replyTo == o.replyTo && m.content.event == o.content.event && m.content.order == o.content.order &&
		(m.content.ciphertext == nil) == (o.content.ciphertext == nil) && m.editedUS == o.editedUS && m.deletedUS == o.deletedUS
}

func (b *batch) told(m *message, typ string) {
	c, ok := b.conversations[m.conversation]
	if !ok || c.frozen || b.alive[m.author].Frozen {
		return
	}
	direction := pb.Direction_DIRECTION_INBOUND
	if m.direction == outward {
		direction = pb.Direction_DIRECTION_OUTBOUND
	}
	b.tell(m.e, typ, m.conversation, c.contact, m.id, direction, m.order)
}

// tellUpdated tells of messages that were there and changed.
func (b *batch) tellUpdated(ctx context.Context) error {
	for _, chunk := range store.Chunks(slices.Sorted(maps.Keys(b.updated))) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, `SELECT m.id, m.workspace_id, m.conversation_id, c.contact_id, m.direction, m.order_us FROM messages m
			JOIN conversations c ON c.id = m.conversation_id WHERE c.frozen = 0 AND m.id IN (`+list+`) ORDER BY m.id`, args, func(rows sqldb.Row) error {
			told := &pb.ConversationEvent{Type: "message.updated", Direction: pb.Direction_DIRECTION_OUTBOUND}
			var direction string
			if err := rows.Scan(&told.MessageId, &told.WorkspaceId, &told.ConversationId, &told.ContactId, &direction, &told.OrderUs); err != nil {
				return err
			}
			if direction == inward {
				told.Direction = pb.Direction_DIRECTION_INBOUND
			}
			b.entries = append(b.entries, store.Told(told, ""))
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
