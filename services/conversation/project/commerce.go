package project

import (
	"cmp"
	"context"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// object names an object of a shop, as one of those whom it names has it.
type object struct{ subject, connection, kind, id string }

// commerce keeps the newest state of each object. Refunds and fulfilments name their order and wait for nothing: who
// reads the order finds them.
func (b *batch) commerce(ctx context.Context) error {
	newest := map[object]*event{}
	for e := range b.of(pb.EventType_EVENT_TYPE_COMMERCE) {
		o := object{e.GetAuthorSubject(), e.GetConnectionId(), e.GetCommerce().GetKind(), e.GetCommerce().GetId()}
		if old, ok := newest[o]; !ok || cmp.Or(cmp.Compare(e.GetOrderUs(), old.GetOrderUs()), cmp.Compare(e.GetId(), old.GetId())) > 0 {
			newest[o] = e
		}
	}
	rows := make([][]any, 0, len(newest))
	of := map[string]*event{}
	for o, e := range newest {
		part := e.partOf(o.subject, pb.Category_CATEGORY_COMMERCE)
		deleted := 0
		if e.GetCommerce().GetDeleted() {
			deleted, part = 1, nil
		}
		rows = append(rows, []any{o.subject, o.connection, o.kind, o.id, e.GetWorkspaceId(), e.GetCommerce().GetParent(), e.GetOrderUs(),
			e.GetId(), deleted, part.GetKeyId(), part.GetCiphertext()})
		of[e.GetId()] = e
	}
	store.SortRows(rows)
	told := map[string]bool{}
	return sqldb.QueueRows(ctx, b.tx, "commerce", []string{"subject_id", "connection_id", "kind", "id", "workspace_id", "parent", "order_us",
		"event_id", "deleted", "key_id", "ciphertext"}, rows, `ON CONFLICT (subject_id, connection_id, kind, id) DO UPDATE SET
		parent = excluded.parent, order_us = excluded.order_us, event_id = excluded.event_id, deleted = excluded.deleted,
		key_id = excluded.key_id, ciphertext = excluded.ciphertext
		WHERE excluded.order_us > commerce.order_us OR (excluded.order_us = commerce.order_us AND excluded.event_id > commerce.event_id)
		RETURNING subject_id, event_id`, func(row sqldb.Row) error {
		var subject, id string
		if err := row.Scan(&subject, &id); err != nil {
			return err
		}
		if e := of[id]; e != nil && !told[subject] && !b.alive[subject].Frozen {
			told[subject] = true
			b.tell(e, "contact.updated", "", channel.ContactID(subject), "", 0, e.GetOrderUs())
		}
		return nil
	})
}
