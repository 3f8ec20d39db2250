package project

import (
	"context"
	"slices"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// copiesOf are the copies, of some types, of events handled before.
func (b *batch) copiesOf(types ...pb.EventType) []*event {
	var found []*event
	for _, e := range b.copies {
		if slices.Contains(types, e.GetType()) {
			found = append(found, e)
		}
	}
	return found
}

// lowerAmendments lowers the order of what a copy shows to have been received earlier.
func (b *batch) lowerAmendments(ctx context.Context) error {
	tables := map[pb.EventType]string{
		pb.EventType_EVENT_TYPE_EDIT: "edits", pb.EventType_EVENT_TYPE_REACTION: "reactions",
		pb.EventType_EVENT_TYPE_CONSENT: "consents", pb.EventType_EVENT_TYPE_PROFILE: "profiles",
	}
	for _, e := range b.copies {
		table, ok := tables[e.GetType()]
		if !ok {
			continue
		}
		lower, args := "UPDATE "+table+" SET order_us = $2 WHERE event_id = $1 AND order_us > $2", []any{e.GetId(), e.GetOrderUs()}
		if table == "profiles" { // whose key begins with the subject
			lower, args = lower+" AND subject_id = $3", append(args, e.GetAuthorSubject())
		}
		if err := b.tx.Queue(ctx, lower, args, nil); err != nil {
			return err
		}
	}
	return nil
}

// lowerMessages does the same for messages. A copy whose message is not there, or is somebody else's,
// changes nothing: it was erased.
func (b *batch) lowerMessages(ctx context.Context) error {
	copies := b.copiesOf(pb.EventType_EVENT_TYPE_MESSAGE)
	if len(copies) == 0 {
		return nil
	}
	for _, e := range copies {
		if err := b.tx.Queue(ctx, `UPDATE messages SET order_us = $2 WHERE id = $1 AND order_us > $2 AND head_event <> ''
			AND author_subject = $3 RETURNING conversation_id`, []any{e.GetMessageId(), e.GetOrderUs(), e.GetAuthorSubject()}, func(rows sqldb.Row) error {
			var conversation string
			err := rows.Scan(&conversation)
			b.moved[conversation] = true
			return err
		}); err != nil {
			return err
		}
	}
	return b.tx.Send(ctx) // what has moved must be known
}
