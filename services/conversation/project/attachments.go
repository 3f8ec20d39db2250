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

// attachment is an attachment's row: what the message declares, and what became of fetching it.
type attachment struct {
	id, workspace, connection, external, message string
	subject                                      string
	declared                                     bool
	position                                     int
	kind, contentType                            string
	size                                         int64
	object                                       string
	key                                          *pb.SealedPart
	failed                                       string
	order                                        int64
	event                                        string
}

func (a *attachment) merge(o *attachment) {
	a.subject, a.message = smallest(a.subject, o.subject), smallest(a.message, o.message)
	switch {
	case o.declared && a.declared:
		a.position = min(a.position, o.position)
	case o.declared:
		a.position, a.declared = o.position, true
	}
	a.kind = smallest(a.kind, o.kind)
	declaredType, declaredSize := smallest(a.declaredType(), o.declaredType()), max(a.declaredSize(), o.declaredSize())
	if o.outcome(a) > 0 {
		a.contentType, a.size = o.contentType, o.size
		a.object, a.key, a.failed, a.order, a.event = o.object, o.key, o.failed, o.order, o.event
	}
	if a.object == "" {
		a.contentType, a.size = declaredType, declaredSize
	}
}

// declaredType and declaredSize are what the message said; what was fetched was looked at instead.
func (a *attachment) declaredType() string {
	if a.object != "" {
		return ""
	}
	return a.contentType
}

func (a *attachment) declaredSize() int64 {
	if a.object != "" {
		return 0
	}
	return a.size
}

// outcome compares what is known of fetching: what was fetched comes before what failed. Of two that failed
// the larger event id counts: their orders are times of receipt, which a copy may lower after another has
// been forgotten.
func (a *attachment) outcome(o *attachment) int {
	fetched := func(a *attachment) int {
		if a.object != "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(fetched(a), fetched(o)), cmp.Compare(a.event, o.event))
}

// attachments stores what messages and edits declare, and what became of fetching it. Objects that
// nothing names any more are deleted.
func (b *batch) attachments(ctx context.Context) error {
	after, objects, maybe, err := b.namedAttachments(ctx)
	if err != nil {
		return err
	}
	for _, chunk := range store.Chunks(maybe) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, `SELECT id, message_id, subject_id, declared, position, kind, content_type, size, object, key_subject,
			key_id, ciphertext, failed, order_us, event_id FROM attachments WHERE id IN (`+list+`)`, args, func(rows sqldb.Row) error {
			old := &attachment{key: &pb.SealedPart{}}
			var declared int
			if err := rows.Scan(&old.id, &old.message, &old.subject, &declared, &old.position, &old.kind, &old.contentType, &old.size, &old.object,
				&old.key.SubjectId, &old.key.KeyId, &old.key.Ciphertext, &old.failed, &old.order, &old.event); err != nil {
				return err
			}
			old.declared = declared == 1
			objects[old.object] = true
			after[old.id].merge(old)
			return nil
		}); err != nil {
			return err
		}
	}
	var rows [][]any
	for _, a := range after {
		delete(objects, a.object)
		declared := 0
		if a.declared {
			declared = 1
		}
		rows = append(rows, []any{a.id, a.workspace, a.connection, a.external, a.message, a.subject, declared, a.position, a.kind, a.contentType,
			a.size, a.object, a.key.GetSubjectId(), a.key.GetKeyId(), a.key.GetCiphertext(), a.failed, a.order, a.event, b.now})
		if a.message != "" && a.order != 0 {
			b.updated[a.message] = true
		}
	}
	store.SortRows(rows)
	if err := sqldb.QueueRows(ctx, b.tx, "attachments", []string{"id", "workspace_id", "connection_id", "external_id", "message_id", "subject_id",
		"declared", "position", "kind", "content_type", "size", "object", "key_subject", "key_id", "ciphertext", "failed", "order_us",
		"event_id", "at_us"}, rows, `ON CONFLICT (id) DO UPDATE SET message_id = excluded.message_id, subject_id = excluded.subject_id,
		declared = excluded.declared, position = excluded.position, kind = excluded.kind, content_type = excluded.content_type,
		size = excluded.size, object = excluded.object, key_subject = excluded.key_subject, key_id = excluded.key_id,
		ciphertext = excluded.ciphertext, failed = excluded.failed, order_us = excluded.order_us, event_id = excluded.event_id`, nil); err != nil {
		return err
	}
	return store.DeleteObjects(ctx, b.tx, b.now, slices.Sorted(maps.Keys(objects)))
}

// namedAttachments are those that the batch's events name, all their objects, and the ids of those that
// may be there already.
func (b *batch) namedAttachments(ctx context.Context) (named map[string]*attachment, objects map[string]bool, maybe []string, err error) {
	named, objects = map[string]*attachment{}, map[string]bool{}
	for e := range b.of(pb.EventType_EVENT_TYPE_MESSAGE, pb.EventType_EVENT_TYPE_EDIT, pb.EventType_EVENT_TYPE_ATTACHMENT) {
		fetched := e.GetType() == pb.EventType_EVENT_TYPE_ATTACHMENT
		external := e.GetTargetExternalId()
		if e.GetType() == pb.EventType_EVENT_TYPE_MESSAGE {
			external = e.GetExternalId()
		}
		ref := b.refs[store.RefKey{Connection: e.GetConnectionId(), External: external}]
		echo := e.GetType() == pb.EventType_EVENT_TYPE_MESSAGE && ref.Message != e.GetMessageId()
		for i, r := range e.GetAttachments() {
			if ref.DeletedUS > 0 || echo {
				objects[r.GetObject()] = true
				continue
			}
			a := &attachment{id: r.GetId(), workspace: e.GetWorkspaceId(), connection: ref.Connection, external: ref.External, message: ref.Message,
				declared: !fetched, position: i, kind: r.GetKind(), contentType: r.GetContentType(), size: r.GetSize()}
			if fetched {
				a.subject = r.GetKey().GetSubjectId()
				a.object, a.key, a.failed, a.order, a.event = r.GetObject(), r.GetKey(), r.GetFailed(), max(e.GetOrderUs(), 1), e.GetId()
				objects[a.object] = true
				if a.object == "" {
					a.contentType, a.size = "", 0
				}
			} else if part := e.part(pb.Category_CATEGORY_CONTENT); part != nil {
				a.subject = part.GetSubjectId()
			}
			if !fetched && r.GetObject() != "" { // it came with the message, and was stored before
				a.object, a.key, a.event = r.GetObject(), r.GetKey(), e.GetId()
				objects[a.object] = true
			}
			if old := named[a.id]; old != nil {
				a.merge(old)
			}
			named[a.id] = a
			if !ref.New {
				maybe = append(maybe, a.id)
			}
		}
	}
	return named, objects, maybe, b.dropDeclared(ctx)
}

// dropDeclared drops what echoes of our own had declared: our message has its attachments.
func (b *batch) dropDeclared(ctx context.Context) error {
	return store.DeleteAttachments(ctx, b.tx, b.now, b.displaced)
}
