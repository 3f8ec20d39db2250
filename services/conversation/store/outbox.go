package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

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
	return AppendBehind(ctx, tx, &Turn{}, 0, nowUS, entries...)
}

// QueueEnd looks where the outbox ends, for AppendBehind: queue it behind the last lock.
func QueueEnd(ctx context.Context, tx *sqldb.Tx, end *int64) error {
	return tx.Queue(ctx, "SELECT COALESCE(MAX(seq), 0) FROM outbox", nil, func(row sqldb.Row) error { return row.Scan(end) })
}

// AppendBehind is Append for who may know where the outbox ended when all locks were taken (0: who does not), and may have a
// turn at placing. It must come last: whoever places waits for a transaction that does.
func AppendBehind(ctx context.Context, tx *sqldb.Tx, turn *Turn, end, nowUS int64, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if end == 0 {
		if err := QueueEnd(ctx, tx, &end); err != nil {
			return err
		}
		if err := tx.Send(ctx); err != nil {
			return err
		}
	}
	var rows [][]any
	seq := max(end, nowUS)
	for _, of := range gathered(entries) {
		seq++
		row, err := rowOf(of)
		if err != nil {
			return err
		}
		rows = append(rows, append(row, len(of), seq, nowUS))
	}
	if turn.Token != "" {
		return turn.insert(ctx, tx, nowUS, len(entries), rows)
	}
	return sqldb.QueueRows(ctx, tx, "outbox", outboxColumns, rows, "", nil)
}

var outboxColumns = []string{"topic", "workspace_id", "conversation_id", "id", "message_key", "type", "traceparent", "payload", "entries", "seq", "created_us"}

// Turn is a transaction's turn at giving what it appends its positions, so that no second transaction has to. It takes it
// where nobody else does at that moment and nothing waits: it waits for nobody, and overtakes nothing. The zero Turn is none:
// the relay places the entries.
type Turn struct {
	// Token is what the relay's lease is held with, Until (in microseconds) until when it is then held, and Number one that
	// no other turn has.
	Token         string
	Until, Number int64
	// Shown is since when, by this process's watch, all that the transaction tells of has been shown to the API's callers; zero:
	// that is not known.
	Shown time.Time

	before int64 // the last position given before
	//bound:exempt what one transaction appends
	rows []Row
}

// insert queues the turn, and rows with their positions: none where it is not taken.
func (t *Turn) insert(ctx context.Context, tx *sqldb.Tx, nowUS int64, positions int, rows [][]any) error {
	t.rows = nil
	if err := tx.Queue(ctx, `UPDATE leases SET turn = $2, until_us = $3, before = position, position = CASE WHEN position > $4 THEN position ELSE $4 END + $5
		WHERE name = (SELECT name FROM leases WHERE name = 'relay' AND token = $1`+tx.ForUpdateOfFree()+`)
		AND NOT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL) RETURNING before`,
		[]any{t.Token, t.Number, t.Until, nowUS - 1, positions}, func(row sqldb.Row) error { return row.Scan(&t.before) }); err != nil {
		return err
	}
	insert := "INSERT INTO outbox (" + strings.Join(outboxColumns, ", ") + `, position)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, (SELECT position FROM leases WHERE name = 'relay' AND token = $12 AND turn = $13) - $14)
		RETURNING topic, workspace_id, position, entries, payload`
	for _, row := range rows {
		positions -= row[8].(int)
		if err := tx.Queue(ctx, insert, append(row, t.Token, t.Number, positions), func(row sqldb.Row) error {
			var position sql.NullInt64
			var r Row
			err := row.Scan(&r.Topic, &r.Workspace, &position, &r.Entries, &r.Payload)
			if r.Position, r.Shown = position.Int64, t.Shown; position.Valid {
				t.rows = append(t.rows, r)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Placed gives what was placed once the transaction has committed, and the last position given before: no rows where nothing was.
func (t *Turn) Placed() (before int64, rows []Row) { return t.before, t.rows }

// Row is a row of the outbox that has its position, which is its last entry's.
type Row struct {
	Topic, Workspace string
	Position         int64
	Entries          int
	Payload          []byte
	// Shown is the Turn's.
	Shown time.Time
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
