package sending

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Involved are the conversations that receipts are about, as far as they are known before any lock is
// taken: the caller locks them before it calls Apply.
func (s *Sending) Involved(ctx context.Context, tx *sqldb.Tx, receipts []*pb.ChannelEvent) ([]string, error) {
	conversations, messages := map[string]bool{}, map[string]bool{}
	var keys []store.RefKey
	for _, e := range receipts {
		switch r := e.GetReceipt(); {
		case r.GetThroughUs() > 0:
			conversations[e.GetConversationKey()] = true
		case r.GetMessageId() != "":
			messages[r.GetMessageId()] = true
		default:
			keys = append(keys, store.RefKey{Connection: e.GetConnectionId(), External: e.GetTargetExternalId()})
		}
	}
	refs, err := store.Refs(ctx, tx, keys)
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		messages[r.Message] = true
	}
	for _, chunk := range store.Chunks(slices.Collect(maps.Keys(messages))) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, tx, "SELECT DISTINCT conversation_id FROM message_parts WHERE message_id IN ("+list+")", args,
			func(rows sqldb.Row) error {
				var id string
				err := rows.Scan(&id)
				conversations[id] = true
				return err
			}); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(conversations)), nil
}

// Apply applies receipts: it raises the status of attempts, learns what the provider calls them, opens a
// new attempt for what came back uncalled, and lets the next part of a conversation leave where the
// outstanding one has ended. locked are the conversations whose rows the transaction has locked, refs
// the references that it has. Receipts that name a message by an id nobody has claimed wait for it.
func (s *Sending) Apply(ctx context.Context, tx *sqldb.Tx, receipts []*pb.ChannelEvent, locked map[string]*store.Conversation, refs map[store.RefKey]store.Ref) ([]store.Entry, error) {
	receipts, err := s.wait(ctx, tx, receipts, refs)
	if err != nil {
		return nil, err
	}
	targets := make([]store.Attempt, len(receipts))
	messages := map[string]bool{}
	for i, e := range receipts {
		if r := e.GetReceipt(); r.GetMessageId() != "" {
			targets[i] = store.Attempt{Message: r.GetMessageId(), Part: r.GetPart(), Attempt: r.GetAttempt()}
		} else if ref, ok := refs[refKey(e)]; ok {
			targets[i] = store.Attempt{Message: ref.Message, Part: ref.Part, Attempt: ref.Attempt}
		}
		if targets[i].Message != "" {
			messages[targets[i].Message] = true
		}
	}
	parts, err := loadParts(ctx, tx, slices.Sorted(maps.Keys(messages)))
	if err != nil {
		return nil, err
	}
	var entries []store.Entry
	for i, e := range receipts {
		if e.GetReceipt().GetThroughUs() > 0 {
			if c := locked[e.GetConversationKey()]; c != nil {
				err = s.sweepThrough(ctx, tx, c, e, parts)
			}
		} else if p := parts.find(targets[i]); p != nil {
			s.outcome(ctx, p, e, parts)
		} else {
			var told []store.Entry
			told, err = s.elsewhere(ctx, tx, targets[i].Message, e)
			entries = append(entries, told...)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := s.lockMissing(ctx, tx, parts, locked); err != nil {
		return nil, err
	}
	for _, p := range parts {
		p.mark(locked[p.Conversation])
	}
	told, err := parts.save(ctx, tx)
	if err != nil {
		return nil, err
	}
	commands, err := s.close(ctx, tx, parts, locked)
	return append(append(entries, told...), commands...), err
}

// wait adds the receipts that waited for references which have a message now, and sets those aside that
// must wait.
func (s *Sending) wait(ctx context.Context, tx *sqldb.Tx, receipts []*pb.ChannelEvent, refs map[store.RefKey]store.Ref) ([]*pb.ChannelEvent, error) {
	var ready []*pb.ChannelEvent
	var waiting [][]any
	for _, e := range receipts {
		r := e.GetReceipt()
		if r.GetMessageId() != "" || r.GetThroughUs() > 0 || refs[refKey(e)].Message != "" {
			ready = append(ready, e)
			continue
		}
		raw, err := proto.Marshal(e)
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, []any{e.GetId(), e.GetConnectionId(), e.GetTargetExternalId(), raw, s.clock.NowMicros()})
	}
	if err := sqldb.InsertRows(ctx, tx, "waiting_receipts", []string{"event_id", "connection_id", "external_id", "event", "at_us"},
		waiting, "ON CONFLICT (event_id) DO NOTHING", nil); err != nil {
		return nil, err
	}
	byConnection := map[string][]string{}
	for _, ref := range refs {
		if ref.Message != "" && !ref.New {
			byConnection[ref.Connection] = append(byConnection[ref.Connection], ref.External)
		}
	}
	for _, connection := range slices.Sorted(maps.Keys(byConnection)) {
		for _, chunk := range store.Chunks(byConnection[connection]) {
			list, args := sqldb.In(2, chunk)
			if err := sqldb.Query(ctx, tx, `DELETE FROM waiting_receipts WHERE connection_id = $1 AND external_id IN (`+list+`) RETURNING event`,
				append([]any{connection}, args...), func(rows sqldb.Row) error {
					var raw []byte
					if err := rows.Scan(&raw); err != nil {
						return err
					}
					e := &pb.ChannelEvent{}
					ready = append(ready, e)
					return proto.Unmarshal(raw, e)
				}); err != nil {
				return nil, err
			}
		}
	}
	return ready, nil
}

func refKey(e *pb.ChannelEvent) store.RefKey {
	return store.RefKey{Connection: e.GetConnectionId(), External: e.GetTargetExternalId()}
}

// find gives an attempt; a receipt that names none is about the newest.
func (set partSet) find(a store.Attempt) *part {
	if a.Attempt == 0 && a.Message != "" {
		for _, p := range set.newest(a.Message) {
			if p.Part == a.Part {
				return p
			}
		}
	}
	return set[a]
}

// outcome applies one receipt to its attempt.
func (s *Sending) outcome(ctx context.Context, p *part, e *pb.ChannelEvent, parts partSet) {
	r := e.GetReceipt()
	if id := r.GetExternalId(); id != "" && (p.External == "" || id < p.External) {
		p.External, p.changed = id, true
	}
	if r.GetStatus() == pb.Status_STATUS_SENT {
		at, exact := e.GetOrderUs(), false
		if r.GetSentOrderUs() > 0 {
			at, exact = r.GetSentOrderUs(), true
		}
		if exact && !p.SentExact || exact == p.SentExact && (p.SentUS == 0 || at < p.SentUS) {
			p.SentUS, p.SentExact, p.changed = at, exact, true
		}
	}
	before := p.Status
	if r.GetStatus() == pb.Status_STATUS_DEFERRED {
		s.deferred(p, e, parts)
	} else {
		p.raise(r.GetStatus(), e.GetOrderUs(), e.GetId(), r.GetErrorClass(), r.GetErrorCode())
	}
	if before < pb.Status_STATUS_UNKNOWN && p.Status >= pb.Status_STATUS_UNKNOWN {
		s.count(ctx, e.GetChannel(), p)
	}
}

// deferred closes an attempt that was not called and opens the next one, which stays first in line. One
// that has had an outcome already, if only unknown, gets none: a person decides whether to try again.
func (s *Sending) deferred(p *part, e *pb.ChannelEvent, parts partSet) {
	r := e.GetReceipt()
	now := s.clock.NowMicros()
	switch {
	case p.Deferred || p.Status > pb.Status_STATUS_UNKNOWN:
	case p.Status == pb.Status_STATUS_UNKNOWN:
		p.raise(pb.Status_STATUS_FAILED, e.GetOrderUs(), e.GetId(), pb.ErrorClass_ERROR_CLASS_RETRY, "not_called")
	case time.Duration(now-p.CreatedUS)*time.Microsecond >= s.cfg.Expiry:
		p.raise(pb.Status_STATUS_FAILED, e.GetOrderUs(), e.GetId(), pb.ErrorClass_ERROR_CLASS_EXPIRED, "expired")
	default:
		p.Deferred, p.changed = true, true
		next := p.again()
		next.NotBeforeUS, next.UntilActive = r.GetNotBeforeUs(), r.GetUntilActive()
		if next.UntilActive { // what we know of the connection may be behind what the adapter knows
			next.NotBeforeUS = max(next.NotBeforeUS, now+s.cfg.Poll.Microseconds())
		}
		if _, exists := parts[next.attempt()]; !exists {
			parts.add(next)
		}
	}
}

// sweepThrough raises everything of a conversation that was sent up to a watermark.
func (s *Sending) sweepThrough(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, e *pb.ChannelEvent, parts partSet) error {
	through, mark := e.GetReceipt().GetThroughUs(), &c.DeliveredUS
	switch e.GetReceipt().GetStatus() {
	case pb.Status_STATUS_DELIVERED:
	case pb.Status_STATUS_READ:
		mark = &c.SeenUS
	default:
		return nil
	}
	if through <= *mark {
		return nil
	}
	var messages []string
	if err := sqldb.Query(ctx, tx, `SELECT DISTINCT message_id FROM message_parts WHERE conversation_id = $1 AND sent_us > $2 AND sent_us <= $3`,
		[]any{c.ID, *mark, through}, func(rows sqldb.Row) error {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			if len(parts.newest(id)) == 0 {
				messages = append(messages, id)
			}
			return nil
		}); err != nil {
		return err
	}
	*mark = through
	more, err := loadParts(ctx, tx, messages)
	if err != nil {
		return err
	}
	maps.Copy(parts, more)
	_, err = tx.ExecContext(ctx, "UPDATE conversations SET delivered_us = $2, seen_us = $3 WHERE id = $1", c.ID, c.DeliveredUS, c.SeenUS)
	return err
}

// mark applies the conversation's watermarks to a part that was sent before them.
func (p *part) mark(c *store.Conversation) {
	switch {
	case c == nil || p.SentUS == 0:
	case p.SentUS <= c.SeenUS:
		p.raise(pb.Status_STATUS_READ, p.SentUS, "", 0, "")
	case p.SentUS <= c.DeliveredUS:
		p.raise(pb.Status_STATUS_DELIVERED, p.SentUS, "", 0, "")
	}
}

// elsewhere applies a receipt to a message that was sent elsewhere and so has no parts.
func (s *Sending) elsewhere(ctx context.Context, tx *sqldb.Tx, message string, e *pb.ChannelEvent) ([]store.Entry, error) {
	r := e.GetReceipt()
	status := r.GetStatus()
	if status == pb.Status_STATUS_DEFERRED {
		return nil, nil
	}
	class, code := saidOf(status, r.GetErrorClass(), r.GetErrorCode())
	told := &pb.ConversationEvent{Type: "message.status", WorkspaceId: e.GetWorkspaceId(), MessageId: message,
		Direction: pb.Direction_DIRECTION_OUTBOUND, Status: status}
	found := false
	err := sqldb.Query(ctx, tx, `UPDATE messages SET status = $2, error_class = $3, error_code = $4
		WHERE id = $1 AND direction = 'outbound' AND head_event <> '' AND (status < $2 OR (status = $2 AND error_code < $4))
		RETURNING conversation_id, order_us`,
		[]any{message, int32(status), int32(class), code}, func(rows sqldb.Row) error {
			found = true
			return rows.Scan(&told.ConversationId, &told.OrderUs)
		})
	if err != nil {
		return nil, err
	}
	if !found {
		s.unmatched.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", e.GetChannel())))
		return nil, nil
	}
	return []store.Entry{store.Told(told, "")}, nil
}

// lockMissing locks the conversations that nobody could know of before the references were locked.
func (s *Sending) lockMissing(ctx context.Context, tx *sqldb.Tx, parts partSet, locked map[string]*store.Conversation) error {
	missing := map[string]bool{}
	for _, p := range parts {
		if locked[p.Conversation] == nil {
			missing[p.Conversation] = true
		}
	}
	more, err := store.LockConversations(ctx, tx, slices.Sorted(maps.Keys(missing)))
	maps.Copy(locked, more)
	return err
}

// close ends what is no longer outstanding, and lets the next leave.
func (s *Sending) close(ctx context.Context, tx *sqldb.Tx, parts partSet, locked map[string]*store.Conversation) ([]store.Entry, error) {
	free := map[string]*store.Conversation{}
	for _, p := range parts {
		c := locked[p.Conversation]
		if c == nil || !p.changed {
			continue
		}
		if p.attempt() == c.Out && (p.Deferred || p.Status >= pb.Status_STATUS_UNKNOWN) {
			c.Out, c.OutConnection, c.OutUS = store.Attempt{}, "", 0
			free[c.ID] = c
		}
		if p.Status == pb.Status_STATUS_QUEUED {
			free[c.ID] = c
		}
	}
	if len(free) > 0 {
		s.Wake() // others may wait for the connection's slot
	}
	var entries []store.Entry
	for _, c := range slices.SortedFunc(maps.Values(free), func(a, b *store.Conversation) int {
		return cmp.Or(cmp.Compare(a.Connection, b.Connection), cmp.Compare(a.ID, b.ID))
	}) {
		next, err := s.advance(ctx, tx, c)
		if err != nil {
			return nil, err
		}
		entries = append(entries, next...)
	}
	return entries, nil
}

func (s *Sending) count(ctx context.Context, channelName string, p *part) {
	s.ended.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", channelName),
		attribute.String("status", word(p.Status, "STATUS_")), attribute.String("class", word(p.ErrorClass, "ERROR_CLASS_"))))
}

// word is an enum's value in lower case, without its prefix.
func word(value fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}
