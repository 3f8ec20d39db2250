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
	return AppendBehind(ctx, tx, &Turn{}, end, nowUS, entries...)
}

// QueueEnd looks where the outbox ends, for AppendBehind: queue it behind the last lock.
func QueueEnd(ctx context.Context, tx *sqldb.Tx, end *int64) error {
	return tx.Queue(ctx, "SELECT COALESCE(MAX(seq), 0) FROM outbox", nil, func(row sqldb.Row) error { return row.Scan(end) })
}

// AppendBehind is Append for who knows where the outbox ended when all locks were taken, and may have a turn at placing. It is
// queued, and must be the last: whoever places waits until the transaction ends.
func AppendBehind(ctx context.Context, tx *sqldb.Tx, turn *Turn, end, nowUS int64, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := turn.take(ctx, tx, nowUS, len(entries)); err != nil {
		return err
	}
	seq, left := max(end, nowUS), len(entries)
	for _, of := range gathered(entries) {
		seq++
		left -= len(of)
		row, err := rowOf(of)
		if err != nil {
			return err
		}
		turn.rows = append(turn.rows, Row{Topic: of[0].Topic, Workspace: of[0].Workspace, Position: int64(len(entries) - left), Entries: len(of), Payload: row[7].([]byte)})
		if err := tx.Queue(ctx, `INSERT INTO outbox (topic, workspace_id, conversation_id, id, message_key, type, traceparent, payload, entries, seq, created_us, position)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, (SELECT position FROM leases WHERE name = 'relay' AND token = $12 AND turn = $13) - $14)`,
			append(row, len(of), seq, nowUS, turn.Token, turn.Number, left), nil); err != nil {
			return err
		}
	}
	return nil
}

// Turn is a transaction's turn at giving what it appends its positions, so that no second transaction has to. The zero Turn
// is none: the relay gives them.
type Turn struct {
	// Token is what the relay's lease is held with, and Number one that no other turn with it has.
	Token  string
	Number int64

	taken       bool
	before, low int64 // the last position given before, and the one that this turn's begin behind
	//bound:exempt what one transaction appends
	rows []Row // their positions count from low
}

// take takes the turn where the lease is held with its token, nobody else gives positions and nothing waits for any: it
// waits for nobody, and overtakes nothing.
func (t *Turn) take(ctx context.Context, tx *sqldb.Tx, nowUS int64, positions int) error {
	t.taken, t.rows = false, nil
	if t.Token == "" {
		return nil
	}
	return tx.Queue(ctx, `UPDATE leases SET turn = $2, before = position, position = CASE WHEN position > $3 THEN position ELSE $3 END + $4
		WHERE name = (SELECT name FROM leases WHERE name = 'relay' AND token = $1`+tx.ForUpdateOfFree()+`)
		AND NOT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL) RETURNING before`,
		[]any{t.Token, t.Number, nowUS - 1, positions}, func(row sqldb.Row) error {
			err := row.Scan(&t.before)
			t.taken, t.low = true, max(t.before, nowUS-1)
			return err
		})
}

// Placed gives what was placed once the transaction has committed, and the last position given before; ok is false where
// nothing was.
func (t *Turn) Placed() (before int64, rows []Row, ok bool) {
	for i := range t.rows {
		t.rows[i].Position += t.low
	}
	return t.before, t.rows, t.taken
}

// Row is a row of the outbox that has its position, which is its last entry's.
type Row struct {
	Topic, Workspace string
	Position         int64
	Entries          int
	Payload          []byte
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
