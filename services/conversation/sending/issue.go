package sending

import (
	"context"
	"database/sql"
	"errors"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// advance lets the first queued part of a locked conversation leave, if it may: nothing of the
// conversation is outstanding, its time has come, the connection is active and has a slot free. It saves
// the conversation's sending state and gives what goes to the outbox.
func (s *Sending) advance(ctx context.Context, tx *sqldb.Tx, c *store.Conversation) ([]store.Entry, error) {
	if c.Out.Message != "" || c.Frozen {
		c.NextUS, c.Parked = 0, false
		return nil, c.QueueSending(ctx, tx)
	}
	now := s.clock.NowMicros()
	var entries []store.Entry
	first, err := s.first(ctx, tx, c)
	if err != nil {
		return nil, err
	}
	out, active := false, false
	if first != nil {
		if out, active, err = s.mayLeave(ctx, tx, c, first.Connection); err != nil {
			return nil, err
		}
	}
	if out {
		ended, err := s.failQueued(ctx, tx, c, pb.ErrorClass_ERROR_CLASS_OPTED_OUT, "opted_out", func(*part) bool { return true })
		if err != nil {
			return nil, err
		}
		if len(ended) > 0 {
			entries, first = ended, nil
		}
	}
	c.NextUS, c.Parked = 0, false
	if first == nil {
		return entries, c.QueueSending(ctx, tx)
	}
	c.NextUS = max(first.NotBeforeUS, 1)
	switch {
	case !active:
		c.Parked = true
	case first.NotBeforeUS > now:
	case first.Ciphertext == nil:
		s.Wake() // the pump seals it anew, which needs the registry
	default:
		free, err := s.slots(ctx, tx, first.Connection)
		if err != nil {
			return nil, err
		}
		if free > 0 {
			command, err := s.command(ctx, tx, c, first)
			if err != nil {
				return nil, err
			}
			c.Out, c.OutConnection, c.OutUS, c.NextUS = first.attempt(), first.Connection, now, 0
			entries = append(entries, command)
		}
	}
	return entries, c.QueueSending(ctx, tx)
}

// first in the conversation's line, or nil.
func (s *Sending) first(ctx context.Context, tx *sqldb.Tx, c *store.Conversation) (*part, error) {
	p, err := scanPart(tx.QueryRowContext(ctx, "SELECT "+partColumns+` FROM message_parts
		WHERE conversation_id = $1 AND status = 1 AND deferred = 0 ORDER BY line_us, message_id, part LIMIT 1`, c.ID))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return p, err
}

// failQueued ends queued parts of a conversation that which chooses, but for the outstanding one.
func (s *Sending) failQueued(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, class pb.ErrorClass, code string, which func(*part) bool) ([]store.Entry, error) {
	return s.endOpen(ctx, tx, c, func(p *part, now int64) {
		if p.Status == pb.Status_STATUS_QUEUED && p.attempt() != c.Out && which(p) {
			p.raise(pb.Status_STATUS_FAILED, now, "", class, code)
		}
	})
}

// endOpen lets end decide about all attempts of a conversation that have no outcome.
func (s *Sending) endOpen(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, end func(p *part, now int64)) ([]store.Entry, error) {
	var messages []string
	if err := sqldb.Query(ctx, tx, `SELECT DISTINCT message_id FROM message_parts WHERE conversation_id = $1 AND status < 3 AND deferred = 0`, []any{c.ID},
		func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			messages = append(messages, id)
			return err
		}); err != nil {
		return nil, err
	}
	parts, err := loadParts(ctx, tx, messages)
	if err != nil {
		return nil, err
	}
	now := s.clock.NowMicros()
	for _, p := range parts {
		if p.Deferred || p.Status >= pb.Status_STATUS_UNKNOWN {
			continue
		}
		if end(p, now); p.Status >= pb.Status_STATUS_UNKNOWN {
			s.count(ctx, c.Channel, p)
		}
	}
	return parts.save(ctx, tx)
}

// mayLeave tells whether a conversation's contact has opted out, and whether a connection is active (see active).
func (s *Sending) mayLeave(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, connection string) (out, active bool, err error) {
	if c.ContactSubject != "" {
		if err := store.QueueOptedOut(ctx, tx, c.ContactSubject, c.Connection, &out); err != nil {
			return false, false, err
		}
	}
	active, err = s.active(ctx, tx, connection)
	if err == nil && !active {
		err = tx.Send(ctx)
	}
	return out, active, err
}

// active: the connection may be sent over, and nothing that revoked it is newer than what we know of it.
func (s *Sending) active(ctx context.Context, tx *sqldb.Tx, connection string) (bool, error) {
	conn, ok := s.connections.Get(connection)
	if !ok || conn.GetStatus() != pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE {
		return false, nil
	}
	var revoked int64
	err := tx.QueryRowContext(ctx, "SELECT revoked_us FROM connection_slots WHERE connection_id = $1", connection).Scan(&revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return conn.GetUpdatedAtUs() > revoked || revoked == 0, err
}

// slots locks the connection's row and gives how many more commands may be outstanding on it. They are counted once the
// lock is had: each statement sees what was committed before it.
func (s *Sending) slots(ctx context.Context, tx *sqldb.Tx, connection string) (int, error) {
	if err := errors.Join(
		tx.Queue(ctx, "INSERT INTO connection_slots (connection_id) VALUES ($1) ON CONFLICT (connection_id) DO NOTHING", []any{connection}, nil),
		tx.Queue(ctx, "SELECT connection_id FROM connection_slots WHERE connection_id = $1"+tx.ForUpdate(), []any{connection}, nil),
	); err != nil {
		return 0, err
	}
	var taken int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM conversations WHERE out_connection = $1 AND out_message <> ''", connection).Scan(&taken)
	return s.cfg.PerConnection - taken, err
}

// command makes the outbox entry that orders a part to be sent.
func (s *Sending) command(ctx context.Context, tx *sqldb.Tx, c *store.Conversation, p *part) (store.Entry, error) {
	cmd := &pb.Command{
		Id: channel.CommandID(p.Message, p.Part, p.Attempt), WorkspaceId: c.Workspace, ConnectionId: p.Connection, Channel: c.Channel,
		ConversationKey: c.ID, MessageId: p.Message, Part: p.Part, Attempt: p.Attempt, Kind: p.Kind,
		Thread: &pb.Thread{Id: c.Thread, Group: c.Group}, SubjectId: p.Subject,
		LastInboundUs: c.LastInboundUS,
		Content:       &pb.SealedPart{SubjectId: p.Subject, KeyId: p.Key, Category: pb.Category_CATEGORY_CONTENT, Ciphertext: p.Ciphertext},
	}
	address := &pb.SealedPart{SubjectId: c.ContactSubject, Category: pb.Category_CATEGORY_PROFILE}
	if err := tx.Queue(ctx, "SELECT key_id, ciphertext FROM identities WHERE subject_id = $1 AND ciphertext IS NOT NULL", []any{c.ContactSubject},
		func(row sqldb.Row) error {
			cmd.Address = address
			return row.Scan(&address.KeyId, &address.Ciphertext)
		}); err != nil {
		return store.Entry{}, err
	}
	var member string
	if err := tx.QueryRowContext(ctx, "SELECT reply_to, member_id FROM messages WHERE id = $1", p.Message).Scan(&cmd.ReplyToExternalId, &member); err != nil {
		return store.Entry{}, err
	}
	cmd.ByMember = member != ""
	switch {
	case p.Kind == pb.CommandKind_COMMAND_KIND_WHOLE:
		all, err := attached(ctx, tx, "message_id", p.Message)
		if err != nil {
			return store.Entry{}, err
		}
		cmd.Attachments = all
	case p.Attachment != "":
		one, err := attached(ctx, tx, "id", p.Attachment)
		if err == nil && len(one) != 1 {
			err = sql.ErrNoRows
		}
		if err != nil {
			return store.Entry{}, err
		}
		cmd.Attachment = one[0]
	}
	return store.Entry{ID: cmd.Id, Topic: store.TopicOutbound(c.Channel), Key: c.ID, Type: "command", Traceparent: p.Trace,
		Workspace: c.Workspace, Conversation: c.ID, Payload: cmd}, nil
}

// attached are the attachments whose column has a value, in the message's order.
func attached(ctx context.Context, tx *sqldb.Tx, column, value string) (all []*pb.AttachmentRef, err error) {
	err = sqldb.Query(ctx, tx, `SELECT id, kind, content_type, size, object, key_subject, key_id, ciphertext FROM attachments
		WHERE `+column+` = $1 ORDER BY position, id`, []any{value}, func(rows sqldb.Row) error {
		a := &pb.AttachmentRef{Key: &pb.SealedPart{Category: pb.Category_CATEGORY_CONTENT}}
		err := rows.Scan(&a.Id, &a.Kind, &a.ContentType, &a.Size, &a.Object, &a.Key.SubjectId, &a.Key.KeyId, &a.Key.Ciphertext)
		all = append(all, a)
		return err
	})
	return all, err
}
