package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Topics that the service publishes to, all through the outbox.
const (
	TopicConversations = "conversations"
	TopicContacts      = "contacts"
	TopicAcks          = "privacy.acks"
)

// TopicOutbound is a channel's topic of commands.
func TopicOutbound(channel string) string { return "outbound." + channel }

// Entry is a row of the outbox. ID may be given where the entry must be found again (commands).
type Entry struct {
	ID, Topic, Key, Type, Traceparent string
	Workspace, Conversation           string
	Payload                           proto.Message
}

// rowEntries are the most entries that one row holds: a row is read and published as a whole.
const rowEntries = 500

// Append writes entries to the outbox; those of one topic and workspace keep the order given. Call it after
// the locks are taken: an entry written under a lock then stands behind all that an earlier holder of that
// lock wrote.
func Append(ctx context.Context, tx *sqldb.Tx, nowUS int64, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var end int64
	if err := QueueEnd(ctx, tx, &end); err != nil {
		return err
	}
	if err := tx.Send(ctx); err != nil {
		return err
	}
	return AppendBehind(ctx, tx, end, nowUS, entries...)
}

// QueueEnd looks where the outbox ends, for AppendBehind: queue it behind the last lock.
func QueueEnd(ctx context.Context, tx *sqldb.Tx, end *int64) error {
	return tx.Queue(ctx, "SELECT COALESCE(MAX(seq), 0) FROM outbox", nil, func(row sqldb.Row) error { return row.Scan(end) })
}

// AppendBehind is Append for who knows where the outbox ended when all locks were taken.
func AppendBehind(ctx context.Context, tx *sqldb.Tx, end, nowUS int64, entries ...Entry) error {
	seq := max(end, nowUS)
	var rows [][]any
	for _, of := range gathered(entries) {
		seq++
		row, err := rowOf(of)
		if err != nil {
			return err
		}
		rows = append(rows, append(row, len(of), seq, nowUS))
	}
	return sqldb.QueueRows(ctx, tx, "outbox", []string{"topic", "workspace_id", "conversation_id", "id", "message_key", "type", "traceparent",
		"payload", "entries", "seq", "created_us"}, rows, "", nil)
}

// gathered puts what is told of one workspace together. Commands and answers are looked up and deleted one
// by one, and stay so.
func gathered(entries []Entry) (rows [][]Entry) {
	type kind struct{ topic, workspace string }
	open := map[kind]int{}
	for _, e := range entries {
		k := kind{e.Topic, e.Workspace}
		at, ok := open[k]
		if ok = ok && len(rows[at]) < rowEntries; !ok {
			at, rows = len(rows), append(rows, nil)
		}
		if rows[at] = append(rows[at], e); e.Topic == TopicConversations || e.Topic == TopicContacts {
			open[k] = at
		}
	}
	return rows
}

// rowOf gives a row's topic, workspace, conversation, id, key, type, trace and payload.
func rowOf(entries []Entry) ([]any, error) {
	several := &pb.OutboxEntries{}
	for _, e := range entries {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e.Payload)
		if err != nil {
			return nil, err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		if e.ID == "" {
			e.ID = id.String()
		}
		if len(entries) == 1 {
			return []any{e.Topic, e.Workspace, e.Conversation, e.ID, e.Key, e.Type, e.Traceparent, payload}, nil
		}
		several.Entries = append(several.Entries, &pb.OutboxEntries_Entry{Id: e.ID, Key: e.Key, Type: e.Type, Traceparent: e.Traceparent, Payload: payload})
	}
	payload, err := proto.Marshal(several)
	return []any{entries[0].Topic, entries[0].Workspace, "", several.Entries[0].Id, "", "", "", payload}, err
}

// Placed is an entry with its position.
type Placed struct {
	*pb.OutboxEntries_Entry
	Position int64
}

// Entries of a row: those of its payload where it holds several, else the one that its columns describe.
func Entries(count int, position int64, row *pb.OutboxEntries_Entry) ([]Placed, error) {
	if count == 1 {
		return []Placed{{row, position}}, nil
	}
	several := &pb.OutboxEntries{}
	if err := proto.Unmarshal(row.GetPayload(), several); err != nil {
		return nil, err
	}
	if len(several.GetEntries()) != count {
		return nil, fmt.Errorf("outbox: row %s holds %d entries, not %d", row.GetId(), len(several.GetEntries()), count)
	}
	entries := make([]Placed, count)
	for i, e := range several.GetEntries() {
		entries[i] = Placed{e, position - int64(count-1-i)}
	}
	return entries, nil
}

// Told makes the entry for what the service decided about a conversation.
func Told(e *pb.ConversationEvent, traceparent string) Entry {
	return Entry{Topic: TopicConversations, Key: e.ConversationId, Type: e.Type, Traceparent: traceparent,
		Workspace: e.WorkspaceId, Conversation: e.ConversationId, Payload: e}
}

// DeleteObjects notes objects of the bucket to be deleted after the commit. Empty keys are skipped.
func DeleteObjects(ctx context.Context, tx *sqldb.Tx, nowUS int64, objects []string) error {
	unique := map[string]bool{}
	var rows [][]any
	for _, object := range objects {
		if object != "" && !unique[object] {
			unique[object] = true
			rows = append(rows, []any{object, nowUS})
		}
	}
	SortRows(rows)
	return sqldb.QueueRows(ctx, tx, "object_deletions", []string{"object", "at_us"}, rows, "ON CONFLICT (object) DO NOTHING", nil)
}
