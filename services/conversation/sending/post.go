package sending

import (
	"context"
	"database/sql"
	"errors"

	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Post stores a composed draft, and lets its first part leave if nothing stands before it, in the
// caller's transaction. After the commit the caller wakes the relay. 410 where the person is being
// erased, 409 where the connection was disconnected, 422 opted_out.
func (s *Sending) Post(ctx context.Context, tx *sqldb.Tx, d *Draft) error {
	if d.content == nil {
		return errors.New("sending: a draft that was not composed")
	}
	c, err := s.lock(ctx, tx, d.conversation.ID, store.Subject{ID: d.Subject.ID, Workspace: d.conversation.Workspace, KeyID: d.Subject.KeyID})
	if err != nil {
		return err
	}
	if !d.message.Note {
		if err := s.mayWrite(ctx, tx, c); err != nil {
			return err
		}
	}
	if err := s.insert(ctx, tx, c, d); err != nil {
		return err
	}
	told := told(c, "message.created", d.MessageID, 0, d.orderUS)
	if d.message.Note {
		return store.Append(ctx, tx, d.orderUS, store.Told(told, d.traceparent))
	}
	told.Direction, told.Status = pb.Direction_DIRECTION_OUTBOUND, pb.Status_STATUS_QUEUED
	entries, err := s.advance(ctx, tx, c)
	if err != nil {
		return err
	}
	return store.Append(ctx, tx, s.clock.NowMicros(), append([]store.Entry{store.Told(told, d.traceparent)}, entries...)...)
}

// Retry makes a new attempt of every part of a message that failed or whose outcome is not known: a
// person's decision, since an unknown one may have arrived. 409 where there is no such part.
func (s *Sending) Retry(ctx context.Context, workspace, message string) error {
	trace := traceparent(ctx)
	err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var conversation, subject, key string
		var deleted int64
		err := tx.QueryRowContext(ctx, `SELECT conversation_id, content_subject, content_key, deleted_us FROM messages
			WHERE id = $1 AND workspace_id = $2`, message, workspace).Scan(&conversation, &subject, &key, &deleted)
		if errors.Is(err, sql.ErrNoRows) {
			return problem.NotFound("message")
		}
		if err != nil {
			return err
		}
		if deleted != 0 {
			return problem.Conflict("the message was deleted")
		}
		c, err := s.lock(ctx, tx, conversation, store.Subject{ID: subject, Workspace: workspace, KeyID: key})
		if err != nil {
			return err
		}
		if err := s.mayWrite(ctx, tx, c); err != nil {
			return err
		}
		parts, err := loadParts(ctx, tx, []string{message})
		if err != nil {
			return err
		}
		now, again := s.clock.NowMicros(), 0
		for _, p := range parts.newest(message) {
			if p.Status == pb.Status_STATUS_UNKNOWN || p.Status == pb.Status_STATUS_FAILED {
				next := p.again()
				next.CreatedUS, next.Trace = now, trace
				parts.add(next)
				again++
			}
		}
		if again == 0 {
			return problem.Conflict("no part of the message failed or is unknown")
		}
		entries, err := parts.save(ctx, tx)
		if err != nil {
			return err
		}
		commands, err := s.advance(ctx, tx, c)
		if err != nil {
			return err
		}
		return store.Append(ctx, tx, now, append(entries, commands...)...)
	})
	if err != nil {
		return err
	}
	s.committed()
	s.Wake() // a new attempt is sealed anew by the pump
	return nil
}

// lock locks subject and conversation, in this order.
func (s *Sending) lock(ctx context.Context, tx *sqldb.Tx, conversation string, subject store.Subject) (*store.Conversation, error) {
	alive, err := store.LockSubjects(ctx, tx, []store.Subject{subject})
	if err != nil {
		return nil, err
	}
	if of, ok := alive[subject.ID]; !ok || of.Frozen {
		return nil, problem.Gone("conversation")
	}
	locked, err := store.LockConversations(ctx, tx, []string{conversation})
	if err != nil {
		return nil, err
	}
	c := locked[conversation]
	if c == nil {
		return nil, store.Missing(ctx, tx, subject.Workspace, store.KindConversation, conversation)
	}
	if c.Frozen {
		return nil, problem.Gone("conversation")
	}
	return c, nil
}

func (s *Sending) mayWrite(ctx context.Context, tx *sqldb.Tx, c *store.Conversation) error {
	if conn, ok := s.connections.Get(c.Connection); ok && conn.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_DISABLED {
		return problem.Conflict("the connection was disconnected")
	}
	out, err := store.OptedOut(ctx, tx, c.ContactSubject, c.Connection)
	if err == nil && out {
		return optedOut()
	}
	return err
}

// insert writes the message, its attachments and parts, and what changes in the conversation's row.
func (s *Sending) insert(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, d *Draft) error {
	direction, status, automated := "outbound", pb.Status_STATUS_QUEUED, 0
	if d.message.Note {
		direction, status = "note", pb.Status_STATUS_UNSPECIFIED
	}
	if d.message.MemberID == "" {
		automated = 1
	}
	err := tx.Queue(ctx, `INSERT INTO messages (id, workspace_id, conversation_id, connection_id, direction, member_id,
		automated, order_us, reply_to, content_subject, content_key, ciphertext, content_id, content_order, status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		[]any{d.MessageID, c.Workspace, c.ID, c.Connection, direction, d.message.MemberID, automated, d.orderUS, d.replyTo,
			d.content.SubjectId, d.content.KeyId, d.content.Ciphertext, d.MessageID, d.orderUS, int32(status)}, nil)
	if err != nil {
		return err
	}
	read := int64(0)
	if d.message.MemberID != "" {
		read = d.orderUS // who answers has read, also what a provider's clock has ahead of ours
	}
	if c.Group {
		c.OwnSubject, c.OwnKey = d.Subject.ID, d.Subject.KeyID
	}
	if err := tx.Queue(ctx, `UPDATE conversations SET own_subject = $2, own_key_id = $3,
		first_us = CASE WHEN first_us = 0 OR first_us > $4 THEN $4 ELSE first_us END,
		last_us = CASE WHEN last_us < $4 THEN $4 ELSE last_us END,
		read_us = CASE WHEN read_us >= $5 AND (read_us >= last_us OR $5 = 0) THEN read_us WHEN last_us > $5 THEN last_us ELSE $5 END
		WHERE id = $1`, []any{c.ID, c.OwnSubject, c.OwnKey, d.orderUS, read}, nil); err != nil {
		return err
	}
	var rows [][]any
	for i, a := range d.message.Attachments {
		rows = append(rows, []any{a.ID, c.Workspace, c.Connection, d.MessageID, d.Subject.ID, 1, i, a.Kind, a.ContentType, a.Size,
			a.Object, a.Key.GetSubjectId(), a.Key.GetKeyId(), a.Key.GetCiphertext(), d.orderUS, d.orderUS})
	}
	if err := sqldb.QueueRows(ctx, tx, "attachments", []string{"id", "workspace_id", "connection_id", "message_id", "subject_id",
		"declared", "position", "kind", "content_type", "size", "object", "key_subject", "key_id", "ciphertext", "order_us", "at_us"},
		rows, "", nil); err != nil {
		return err
	}
	parts := partSet{}
	for i, p := range d.parts {
		parts.add(&part{Message: d.MessageID, Part: int32(i), Attempt: 1, Conversation: c.ID, Connection: c.Connection,
			Status: pb.Status_STATUS_QUEUED, LineUS: d.orderUS, Kind: p.kind, Attachment: p.attachment,
			Subject: p.sealed.SubjectId, Key: p.sealed.KeyId, Ciphertext: p.sealed.Ciphertext,
			CreatedUS: d.orderUS, Trace: d.traceparent})
	}
	return parts.queue(ctx, tx)
}

func told(c *store.Conversation, typ, message string, status pb.Status, order int64) *pb.ConversationEvent {
	return &pb.ConversationEvent{Type: typ, WorkspaceId: c.Workspace, ConversationId: c.ID, ContactId: c.ContactID,
		MessageId: message, Status: status, OrderUs: order}
}
