package sending

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// part is one attempt at one part of a message.
type part struct {
	Message                  string
	Part, Attempt            int32
	Conversation, Connection string
	Status                   pb.Status
	StatusOrder              int64
	StatusEvent              string
	ErrorClass               pb.ErrorClass
	ErrorCode                string
	Deferred                 bool
	LineUS, NotBeforeUS      int64
	UntilActive              bool
	Kind                     pb.CommandKind
	Attachment               string
	Subject, Key             string
	Ciphertext               []byte
	External                 string
	SentUS                   int64
	// SentExact: the provider gave SentUS.
	SentExact bool
	CreatedUS int64
	Trace     string

	changed bool
}

const partColumns = `message_id, part, attempt, conversation_id, connection_id, status, status_order, status_event, error_class,
	error_code, deferred, line_us, not_before_us, until_active, kind, attachment_id, subject_id, key_id, ciphertext, external_id,
	sent_us, sent_exact, created_us, traceparent`

func scanPart(rows sqldb.Row) (*part, error) {
	var p part
	var deferred, untilActive, exact int
	err := rows.Scan(&p.Message, &p.Part, &p.Attempt, &p.Conversation, &p.Connection, &p.Status, &p.StatusOrder, &p.StatusEvent,
		&p.ErrorClass, &p.ErrorCode, &deferred, &p.LineUS, &p.NotBeforeUS, &untilActive, &p.Kind, &p.Attachment, &p.Subject, &p.Key,
		&p.Ciphertext, &p.External, &p.SentUS, &exact, &p.CreatedUS, &p.Trace)
	p.Deferred, p.UntilActive, p.SentExact = deferred == 1, untilActive == 1, exact == 1
	return &p, err
}

func (p *part) attempt() store.Attempt {
	return store.Attempt{Message: p.Message, Part: p.Part, Attempt: p.Attempt}
}

// again is the next attempt at the same part: queued where its message stands in the line, to be sealed
// anew.
func (p *part) again() *part {
	return &part{Message: p.Message, Part: p.Part, Attempt: p.Attempt + 1, Conversation: p.Conversation, Connection: p.Connection,
		Status: pb.Status_STATUS_QUEUED, LineUS: p.LineUS, Kind: p.Kind, Attachment: p.Attachment, Subject: p.Subject,
		CreatedUS: p.CreatedUS, Trace: p.Trace}
}

// raise lets the status rise, and no more: of the same status the newest by (order, event) says why.
func (p *part) raise(status pb.Status, order int64, event string, class pb.ErrorClass, code string) {
	newer := cmp.Or(cmp.Compare(status, p.Status), cmp.Compare(order, p.StatusOrder), cmp.Compare(event, p.StatusEvent))
	if newer <= 0 {
		return
	}
	class, code = saidOf(status, class, code)
	p.Status, p.StatusOrder, p.StatusEvent, p.ErrorClass, p.ErrorCode, p.changed = status, order, event, class, code, true
}

// saidOf a status is why it failed; where nobody knows that, the code by which the call ended.
func saidOf(status pb.Status, class pb.ErrorClass, code string) (pb.ErrorClass, string) {
	switch status {
	case pb.Status_STATUS_FAILED:
		return class, code
	case pb.Status_STATUS_UNKNOWN:
		return 0, code
	}
	return 0, ""
}

// partSet holds all attempts of some messages.
type partSet map[store.Attempt]*part

func loadParts(ctx context.Context, tx *sqldb.Tx, messages []string) (partSet, error) {
	set := partSet{}
	for _, chunk := range store.Chunks(messages) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, tx, "SELECT "+partColumns+" FROM message_parts WHERE message_id IN ("+list+")", args,
			func(rows sqldb.Row) error {
				p, err := scanPart(rows)
				set[p.attempt()] = p
				return err
			}); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (set partSet) add(p *part) {
	p.changed = true
	set[p.attempt()] = p
}

// newest attempts of a message's parts, in order.
func (set partSet) newest(message string) []*part {
	byPart := map[int32]*part{}
	for _, p := range set {
		if p.Message == message && (byPart[p.Part] == nil || byPart[p.Part].Attempt < p.Attempt) {
			byPart[p.Part] = p
		}
	}
	return slices.SortedFunc(maps.Values(byPart), func(a, b *part) int { return cmp.Compare(a.Part, b.Part) })
}

// queue upserts the attempts that changed, when something is next asked for.
func (set partSet) queue(ctx context.Context, tx *sqldb.Tx) error {
	changed := slices.SortedFunc(maps.Values(set), func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.Message, b.Message), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Attempt, b.Attempt))
	})
	var rows [][]any
	for _, p := range changed {
		if p.changed {
			rows = append(rows, []any{p.Message, p.Part, p.Attempt, p.Conversation, p.Connection, int32(p.Status), p.StatusOrder,
				p.StatusEvent, int32(p.ErrorClass), p.ErrorCode, flag(p.Deferred), p.LineUS, p.NotBeforeUS, flag(p.UntilActive),
				int32(p.Kind), p.Attachment, p.Subject, p.Key, p.Ciphertext, p.External, p.SentUS, flag(p.SentExact), p.CreatedUS, p.Trace})
		}
	}
	return sqldb.QueueRows(ctx, tx, "message_parts", []string{partColumns}, rows, `ON CONFLICT (message_id, part, attempt) DO UPDATE SET
		status = excluded.status, status_order = excluded.status_order, status_event = excluded.status_event,
		error_class = excluded.error_class, error_code = excluded.error_code, deferred = excluded.deferred,
		not_before_us = excluded.not_before_us, until_active = excluded.until_active, external_id = excluded.external_id,
		sent_us = excluded.sent_us, sent_exact = excluded.sent_exact`, nil)
}

// save writes the attempts that changed and what follows for their messages: a message has failed where
// a part's newest attempt has, and stands otherwise where its lowest part does. It gives the entries that
// tell of messages whose status changed.
func (set partSet) save(ctx context.Context, tx *sqldb.Tx) ([]store.Entry, error) {
	if err := set.queue(ctx, tx); err != nil {
		return nil, err
	}
	messages := map[string]*part{}
	for _, p := range set {
		if p.changed {
			messages[p.Message] = p
		}
	}
	var entries []store.Entry
	moved := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(messages)) {
		was, now, err := set.settle(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if now.order != was.order {
			moved[messages[id].Conversation] = true
		}
		if now.status != was.status {
			entries = append(entries, store.Told(&pb.ConversationEvent{Type: "message.status", WorkspaceId: now.workspace,
				ConversationId: messages[id].Conversation, MessageId: id, Direction: pb.Direction_DIRECTION_OUTBOUND,
				Status: now.status, OrderUs: now.order}, messages[id].Trace))
		}
	}
	return entries, store.Bounds(ctx, tx, slices.Sorted(maps.Keys(moved)))
}

type settled struct {
	workspace string
	status    pb.Status
	order     int64
}

// settle makes a message's row agree with its parts: status, error, the provider's id, and, where the
// channel's inbound messages carry the provider's time, its order.
func (set partSet) settle(ctx context.Context, tx *sqldb.Tx, message string) (was, now settled, err error) {
	var channelName, external string
	err = tx.QueryRowContext(ctx, `SELECT m.workspace_id, m.status, m.order_us, m.external_id, c.channel FROM messages m
		JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1`, message).Scan(&was.workspace, &was.status, &was.order, &external, &channelName)
	if err != nil {
		return was, now, err
	}
	now = was
	class, code := pb.ErrorClass_ERROR_CLASS_UNSPECIFIED, ""
	for i, p := range set.newest(message) {
		if i == 0 || now.status != pb.Status_STATUS_FAILED && (p.Status == pb.Status_STATUS_FAILED || p.Status < now.status) {
			now.status, class, code = p.Status, p.ErrorClass, p.ErrorCode
		}
		if i == 0 {
			external = p.External
		}
	}
	if f, ok := channel.Lookup(channelName); ok && f.ProviderTime {
		sent := int64(0)
		for _, p := range set {
			if p.Message == message && p.SentExact && (sent == 0 || p.SentUS < sent) {
				sent = p.SentUS
			}
		}
		if sent != 0 {
			now.order = sent
		}
	}
	return was, now, tx.Queue(ctx, `UPDATE messages SET status = $2, error_class = $3, error_code = $4, external_id = $5, order_us = $6
		WHERE id = $1`, []any{message, int32(now.status), int32(class), code, external, now.order}, nil)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
