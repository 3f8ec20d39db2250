package store

import (
	"context"

	"tributary.dev/libs/sqldb"
)

// Conversation is a conversation's row as those need it who lock it: what it is, and its one
// outstanding command.
type Conversation struct {
	ID, Workspace, Channel, Connection string
	ContactID, ContactSubject          string
	OwnSubject, OwnKey                 string
	Thread                             string
	Group, Frozen                      bool
	Out                                Attempt
	OutConnection                      string
	OutUS                              int64
	NextUS                             int64
	Parked                             bool
	// The person's watermarks: what was sent up to then is delivered, or read.
	DeliveredUS, SeenUS int64
	// LastInboundUS is when the person last wrote; 0: never.
	LastInboundUS int64
}

// Attempt names one attempt at one part of a message; its zero value is none.
type Attempt struct {
	Message       string
	Part, Attempt int32
}

// ConversationColumns are what ScanConversation reads.
const ConversationColumns = `id, workspace_id, channel, connection_id, contact_id, contact_subject,
	own_subject, own_key_id, thread_id, is_group, frozen,
	out_message, out_part, out_attempt, out_connection, out_us, next_us, parked, delivered_us, seen_us, last_inbound_us`

// ScanConversation reads a row of ConversationColumns.
func ScanConversation(rows sqldb.Row) (*Conversation, error) {
	var c Conversation
	var group, frozen, parked int
	err := rows.Scan(&c.ID, &c.Workspace, &c.Channel, &c.Connection, &c.ContactID, &c.ContactSubject,
		&c.OwnSubject, &c.OwnKey, &c.Thread, &group, &frozen,
		&c.Out.Message, &c.Out.Part, &c.Out.Attempt, &c.OutConnection, &c.OutUS, &c.NextUS, &parked,
		&c.DeliveredUS, &c.SeenUS, &c.LastInboundUS)
	c.Group, c.Frozen, c.Parked = group == 1, frozen == 1, parked == 1
	return &c, err
}

// LockConversations locks the rows of ids, as far as there are such, and gives their state. Whoever
// posts, closes or sweeps does this first, so that no two commands of a conversation leave.
func LockConversations(ctx context.Context, tx *sqldb.Tx, ids []string) (map[string]*Conversation, error) {
	found := map[string]*Conversation{}
	for _, chunk := range Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		err := sqldb.Query(ctx, tx, "SELECT "+ConversationColumns+" FROM conversations WHERE id IN ("+list+") ORDER BY id"+tx.ForUpdate(), args,
			func(rows sqldb.Row) error {
				c, err := ScanConversation(rows)
				found[c.ID] = c
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// QueueSending writes what a lock's holder changed: the outstanding command, and when the next may leave.
func (c *Conversation) QueueSending(ctx context.Context, tx *sqldb.Tx) error {
	parked := 0
	if c.Parked {
		parked = 1
	}
	return tx.Queue(ctx, `UPDATE conversations SET out_message = $2, out_part = $3, out_attempt = $4,
		out_connection = $5, out_us = $6, next_us = $7, parked = $8 WHERE id = $1`,
		[]any{c.ID, c.Out.Message, c.Out.Part, c.Out.Attempt, c.OutConnection, c.OutUS, c.NextUS, parked}, nil)
}

// Chunks cuts a list into pieces that sqldb.In takes.
func Chunks[T any](list []T) [][]T {
	const size = 1000
	//bound:exempt ends with the ids
	var chunks [][]T
	for len(list) > size {
		chunks, list = append(chunks, list[:size]), list[size:]
	}
	if len(list) > 0 {
		chunks = append(chunks, list)
	}
	return chunks
}

// Bounds sets first_us, last_us and last_inbound_us of conversations by their messages as they stand.
func Bounds(ctx context.Context, tx *sqldb.Tx, ids []string) error {
	for _, chunk := range Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		if _, err := tx.ExecContext(ctx, `UPDATE conversations SET
			first_us = (SELECT COALESCE(MIN(m.order_us), 0) FROM messages m WHERE m.conversation_id = conversations.id),
			last_us = (SELECT COALESCE(MAX(m.order_us), 0) FROM messages m WHERE m.conversation_id = conversations.id),
			last_inbound_us = (SELECT COALESCE(MAX(m.order_us), 0) FROM messages m
				WHERE m.conversation_id = conversations.id AND m.direction = 'inbound')
			WHERE id IN (`+list+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}
