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

// lockRefs locks what the batch's events call messages by: whoever brings a message and whoever brings
// something about it meet here.
func (b *batch) lockRefs(ctx context.Context) error {
	refs := map[store.RefKey]store.Ref{}
	name := func(key store.RefKey, r store.Ref) {
		old := refs[key]
		if r.Attempt > 0 || old.Message == "" {
			old.Message, old.Part, old.Attempt = r.Message, r.Part, r.Attempt
		}
		if old.DeletedUS == 0 || r.DeletedUS > 0 && r.DeletedUS < old.DeletedUS {
			old.DeletedUS = r.DeletedUS
		}
		refs[key] = old
	}
	for _, e := range slices.Concat(b.fresh, b.copiesOf(pb.EventType_EVENT_TYPE_EDIT, pb.EventType_EVENT_TYPE_DELETION)) {
		target := store.RefKey{Connection: e.GetConnectionId(), External: e.GetTargetExternalId()}
		switch e.GetType() {
		case pb.EventType_EVENT_TYPE_MESSAGE:
			key := store.RefKey{Connection: e.GetConnectionId(), External: e.GetExternalId()}
			name(key, store.Ref{Message: e.GetMessageId()})
			b.changes[key] = true
		case pb.EventType_EVENT_TYPE_EDIT:
			name(target, store.Ref{})
			b.changes[target], b.amended[target] = true, true
		case pb.EventType_EVENT_TYPE_DELETION:
			name(target, store.Ref{DeletedUS: e.GetOrderUs()})
			b.changes[target] = true
		case pb.EventType_EVENT_TYPE_REACTION, pb.EventType_EVENT_TYPE_ATTACHMENT:
			name(target, store.Ref{})
		case pb.EventType_EVENT_TYPE_RECEIPT:
			r := e.GetReceipt()
			if r.GetMessageId() != "" && r.GetExternalId() != "" {
				key := store.RefKey{Connection: e.GetConnectionId(), External: r.GetExternalId()}
				name(key, store.Ref{Message: r.GetMessageId(), Part: r.GetPart(), Attempt: max(r.GetAttempt(), 1)})
				b.changes[key] = true
			} else if r.GetMessageId() == "" && r.GetThroughUs() == 0 {
				name(target, store.Ref{})
			}
		}
	}
	if err := b.findDisplaced(ctx, refs); err != nil {
		return err
	}
	var err error
	if b.refs, err = store.QueueRefs(ctx, b.tx, b.now, refs); err != nil {
		return err
	}
	if err = store.QueueEnd(ctx, b.tx, &b.locked); err != nil {
		return err
	}
	if err := b.tx.Send(ctx); err != nil {
		return err
	}
	return b.found()
}

// findDisplaced finds messages that an echo of our own had been taken for: the receipts in this batch tell
// that they are ours.
func (b *batch) findDisplaced(ctx context.Context, refs map[store.RefKey]store.Ref) error {
	var claimed []store.RefKey
	for key, r := range refs {
		if r.Attempt > 0 {
			claimed = append(claimed, key)
		}
	}
	before, err := store.Refs(ctx, b.tx, claimed)
	for _, r := range before {
		if r.Message != "" && r.Attempt == 0 {
			b.displaced = append(b.displaced, r.Message)
		}
	}
	slices.Sort(b.displaced)
	return err
}

// displace takes such messages away, once what is known of them has gone over to ours.
func (b *batch) displace(ctx context.Context) error {
	if err := b.link(ctx); err != nil || len(b.displaced) == 0 {
		return err
	}
	if err := b.takeStatuses(ctx); err != nil {
		return err
	}
	conversations, err := store.DeleteMessages(ctx, b.tx, b.now, b.displaced)
	for _, id := range conversations {
		b.moved[id] = true
	}
	return err
}

// takeStatuses hands what receipts had told of such messages to sending once more: it is about ours.
func (b *batch) takeStatuses(ctx context.Context) error {
	for _, chunk := range store.Chunks(b.displaced) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, `SELECT workspace_id, connection_id, external_id, status, error_class, error_code FROM messages
			WHERE status > 0 AND id IN (`+list+`) ORDER BY id`, args, func(rows sqldb.Row) error {
			e := &pb.ChannelEvent{Type: pb.EventType_EVENT_TYPE_RECEIPT, Receipt: &pb.Receipt{}}
			err := rows.Scan(&e.WorkspaceId, &e.ConnectionId, &e.TargetExternalId, &e.Receipt.Status, &e.Receipt.ErrorClass, &e.Receipt.ErrorCode)
			b.receipts = append(b.receipts, e)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// amendments stores the batch's edits, reactions and attachments, for their messages or to wait for them.
// Nothing is stored of a message that was deleted.
func (b *batch) amendments(ctx context.Context) error {
	var edits, reactions [][]any
	for e := range b.of(pb.EventType_EVENT_TYPE_EDIT, pb.EventType_EVENT_TYPE_REACTION) {
		ref := b.refs[store.RefKey{Connection: e.GetConnectionId(), External: e.GetTargetExternalId()}]
		if ref.DeletedUS > 0 {
			continue
		}
		part := e.part(pb.Category_CATEGORY_CONTENT)
		if e.GetType() == pb.EventType_EVENT_TYPE_EDIT {
			edits = append(edits, []any{e.GetId(), ref.Connection, ref.External, ref.Message, e.GetAuthorSubject(), e.GetOrderUs(),
				part.GetSubjectId(), part.GetKeyId(), part.GetCiphertext(), e.GetMessageId(), e.GetOrderUs(), b.now})
			continue
		}
		removed := 0
		if e.GetReaction().GetRemoved() {
			removed = 1
		}
		reactions = append(reactions, []any{e.GetId(), ref.Connection, ref.External, ref.Message, e.GetWorkspaceId(),
			e.GetReaction().GetReactionKey(), e.GetAuthorSubject(), e.GetOrderUs(), removed, part.GetKeyId(), part.GetCiphertext(), e.GetOrderUs(), b.now})
		if ref.Message != "" {
			b.updated[ref.Message] = true
		}
	}
	if err := sqldb.QueueRows(ctx, b.tx, "edits", []string{"event_id", "connection_id", "external_id", "message_id", "author_subject", "order_us",
		"content_subject", "content_key", "ciphertext", "content_id", "content_order", "at_us"}, edits, "ON CONFLICT (event_id) DO NOTHING", nil); err != nil {
		return err
	}
	if err := sqldb.QueueRows(ctx, b.tx, "reactions", []string{"event_id", "connection_id", "external_id", "message_id", "workspace_id", "reaction_key",
		"author_subject", "order_us", "removed", "key_id", "ciphertext", "content_order", "at_us"}, reactions, "ON CONFLICT (event_id) DO NOTHING", nil); err != nil {
		return err
	}
	return b.attachments(ctx)
}

// delete takes from messages what deletions take, and forgets what hangs on them or had waited for them.
func (b *batch) delete(ctx context.Context, after map[string]*message) error {
	var deleted []string
	for _, ref := range b.refs {
		if ref.DeletedUS == 0 {
			continue
		}
		if m := after[ref.Message]; m != nil {
			m.delete(ref.DeletedUS)
			deleted = append(deleted, m.id)
		}
		if ref.New {
			continue
		}
		for _, table := range []string{"edits", "reactions"} {
			if _, err := b.tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE connection_id = $1 AND external_id = $2", ref.Connection, ref.External); err != nil {
				return err
			}
		}
	}
	slices.Sort(deleted)
	return store.DeleteContent(ctx, b.tx, b.now, deleted)
}

// edit gives messages the content of their newest edit.
func (b *batch) edit(ctx context.Context, after map[string]*message, touched []string) error {
	newest, at := map[string]content{}, map[string]int64{}
	for _, chunk := range store.Chunks(touched) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, b.tx, `SELECT message_id, event_id, order_us, content_subject, content_key, ciphertext, content_id, content_order
			FROM edits WHERE message_id IN (`+list+`)`, args, func(rows sqldb.Row) error {
			c := content{rank: editRank}
			var id string
			var order int64
			if err := rows.Scan(&id, &c.event, &order, &c.subject, &c.key, &c.ciphertext, &c.id, &c.order); err != nil {
				return err
			}
			if old, ok := newest[id]; !ok || cmp.Or(cmp.Compare(order, at[id]), cmp.Compare(c.event, old.event)) > 0 {
				newest[id], at[id] = c, order
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for id, c := range newest {
		if m := after[id]; m != nil && m.deletedUS == 0 {
			m.content, m.editedUS = c, at[id]
		}
	}
	return nil
}

func (m *message) delete(at int64) {
	if m.deletedUS == 0 || at < m.deletedUS {
		m.deletedUS = at
	}
	// Whose it was stays known, so that an erasure still finds it; what it said does not.
	m.content.ciphertext, m.editedUS, m.content.rank = nil, 0, editRank+1
}

// link gives what waited its message.
func (b *batch) link(ctx context.Context) error {
	byConnection := map[string][]string{}
	for key, ref := range b.refs {
		if ref.Message != "" && !ref.New && b.changes[key] {
			byConnection[key.Connection] = append(byConnection[key.Connection], key.External)
		}
	}
	for _, connection := range slices.Sorted(maps.Keys(byConnection)) {
		for _, chunk := range store.Chunks(byConnection[connection]) {
			list, args := sqldb.In(2, chunk)
			for _, table := range []string{"edits", "reactions", "attachments"} {
				if _, err := b.tx.ExecContext(ctx, `UPDATE `+table+` SET message_id = r.message_id FROM external_refs r
					WHERE r.connection_id = `+table+`.connection_id AND r.external_id = `+table+`.external_id AND `+table+`.message_id <> r.message_id
					AND `+table+`.connection_id = $1 AND `+table+`.external_id IN (`+list+`)`, append([]any{connection}, args...)...); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
