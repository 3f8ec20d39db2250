package store

import (
	"context"
	"database/sql"

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

// Append writes entries to the outbox in the order given. Call it after the locks are taken: an entry
// written under a lock then stands behind all that an earlier holder of that lock wrote.
func Append(ctx context.Context, tx *sql.Tx, nowUS int64, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM outbox").Scan(&seq); err != nil {
		return err
	}
	seq = max(seq, nowUS)
	rows := make([][]any, len(entries))
	for i, e := range entries {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e.Payload)
		if err != nil {
			return err
		}
		id := e.ID
		if id == "" {
			v7, err := uuid.NewV7()
			if err != nil {
				return err
			}
			id = v7.String()
		}
		seq++
		rows[i] = []any{id, seq, e.Topic, e.Key, payload, e.Type, e.Traceparent, e.Workspace, e.Conversation, nowUS}
	}
	return sqldb.InsertRows(ctx, tx, "outbox", []string{"id", "seq", "topic", "message_key", "payload", "type", "traceparent",
		"workspace_id", "conversation_id", "created_us"}, rows, "", nil)
}

// Told makes the entry for what the service decided about a conversation.
func Told(e *pb.ConversationEvent, traceparent string) Entry {
	return Entry{Topic: TopicConversations, Key: e.ConversationId, Type: e.Type, Traceparent: traceparent,
		Workspace: e.WorkspaceId, Conversation: e.ConversationId, Payload: e}
}

// DeleteObjects notes objects of the bucket to be deleted after the commit. Empty keys are skipped.
func DeleteObjects(ctx context.Context, tx *sql.Tx, nowUS int64, objects []string) error {
	unique := map[string]bool{}
	var rows [][]any
	for _, object := range objects {
		if object != "" && !unique[object] {
			unique[object] = true
			rows = append(rows, []any{object, nowUS})
		}
	}
	SortRows(rows)
	return sqldb.InsertRows(ctx, tx, "object_deletions", []string{"object", "at_us"}, rows, "ON CONFLICT (object) DO NOTHING", nil)
}
