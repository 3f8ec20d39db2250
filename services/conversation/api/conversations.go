package api

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"

	"tributary.dev/libs/access"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// bucketShift makes a time the bucket that conversations are listed along: conversations.last_bucket.
const bucketShift = 26

// unreadMost bounds what is counted.
const unreadMost = 1000

// selectConversations is followed by a condition on c. One without a message is not there yet.
var selectConversations = `SELECT c.id, c.channel, c.connection_id, c.contact_id, c.status_shown, c.first_us, c.last_us, c.frozen,
	(SELECT count(*) FROM (SELECT 1 FROM messages m WHERE m.conversation_id = c.id AND m.order_us > c.read_us AND m.direction = 'inbound' AND m.deleted_us = 0
		AND ` + authorShown + ` LIMIT ` + fmt.Sprint(unreadMost) + `) AS unread)
	FROM conversations c WHERE c.last_us > 0 AND `

type conversationRow struct {
	Conversation
	lastUS int64
	frozen bool
}

func queryConversations(ctx context.Context, tx *sqldb.Tx, condition string, args ...any) ([]conversationRow, error) {
	var found []conversationRow
	err := sqldb.Query(ctx, tx, selectConversations+condition, args, func(rows sqldb.Row) error {
		var c conversationRow
		var contact string
		var first int64
		var frozen int
		err := rows.Scan(&c.ID, &c.Channel, &c.ConnectionID, &contact, &c.Status, &first, &c.lastUS, &frozen, &c.Unread)
		c.ContactID, c.frozen = optional(contact), frozen != 0
		c.CreatedAt, c.LastMessageAt = timeText(first), timeText(c.lastUS)
		found = append(found, c)
		return err
	})
	return found, err
}

type listConversations struct {
	Status       *string `query:"status" json:"-"`
	Channel      *string `query:"channel" json:"-"`
	ConnectionID *string `query:"connection_id" json:"-"`
	ContactID    *string `query:"contact_id" json:"-"`
	endpointx.Paging
}

func (a *API) listConversations(ctx context.Context, req listConversations) (endpointx.Page[Conversation], error) {
	caller, _ := access.From(ctx)
	page := endpointx.Page[Conversation]{Items: []Conversation{}}
	if req.Status != nil && !slices.Contains(conversationStatuses, *req.Status) {
		return page, invalidStatus()
	}
	if req.Channel != nil && !slices.Contains(channel.Names(), *req.Channel) {
		return page, problem.Invalid(map[string]string{"channel": "must be one of " + strings.Join(channel.Names(), ", ")})
	}
	if req.ConnectionID != nil {
		id, err := uuid.Parse(*req.ConnectionID)
		if err != nil {
			return page, problem.Invalid(map[string]string{"connection_id": "must be a UUID"})
		}
		*req.ConnectionID = id.String() // however it was spelt
	}
	before, beforeID := int64(math.MaxInt64), ""
	if err := req.Behind(&before, &beforeID); err != nil {
		return page, err
	}
	condition, args := req.condition(caller.WorkspaceID, before, beforeID)
	err := a.DB.View(ctx, func(tx *sqldb.Tx) error {
		if req.ContactID != nil {
			if err := contactShown(ctx, tx, caller.WorkspaceID, *req.ContactID); err != nil {
				return err
			}
		}
		rows, err := queryConversations(ctx, tx, condition, args...)
		if err != nil {
			return err
		}
		if len(rows) > req.Size() {
			rows = rows[:req.Size()]
			last := rows[len(rows)-1]
			page.NextCursor = req.Next(last.lastUS, last.ID)
		}
		for _, c := range rows {
			page.Items = append(page.Items, c.Conversation)
		}
		return nil
	})
	if err != nil {
		return page, err
	}
	all := make([]*Conversation, len(page.Items))
	for i := range page.Items {
		all[i] = &page.Items[i]
	}
	return page, a.subjects(ctx, caller.WorkspaceID, all...)
}

// condition selects a page's conversations before a place in the list. They are read along an index of buckets, and what is
// within one is sorted.
func (req *listConversations) condition(workspace string, before int64, beforeID string) (condition string, args []any) {
	where := []string{"c.workspace_id = $1", "c.frozen = 0", "(c.last_us, c.id) < ($2, $3)", "c.last_bucket <= $4"}
	args = []any{workspace, before, beforeID, before >> bucketShift}
	for _, filter := range []struct {
		column string
		value  *string
	}{{"c.status_shown", req.Status}, {"c.channel", req.Channel}, {"c.connection_id", req.ConnectionID}, {"c.contact_id", req.ContactID}} {
		if filter.value != nil {
			args = append(args, *filter.value)
			where = append(where, fmt.Sprintf("%s = $%d", filter.column, len(args)))
		}
	}
	if req.ContactID != nil {
		where = append(where, "c.contact_id <> ''") // the partial index asks for it
	}
	args = append(args, req.Size()+1)
	return strings.Join(where, " AND ") + fmt.Sprintf(" ORDER BY c.last_bucket DESC, c.last_us DESC, c.id DESC LIMIT $%d", len(args)), args
}

type byID struct {
	ID string `path:"id" json:"-"`
}

func (a *API) getConversation(ctx context.Context, req byID) (c Conversation, err error) {
	caller, _ := access.From(ctx)
	err = a.DB.View(ctx, func(tx *sqldb.Tx) error {
		c, err = conversation(ctx, tx, caller.WorkspaceID, req.ID)
		return err
	})
	if err != nil {
		return c, err
	}
	return c, a.subjects(ctx, caller.WorkspaceID, &c)
}

// conversation reads one of a workspace: 404 where there is none, 410 where its contact is frozen or was
// erased.
func conversation(ctx context.Context, tx *sqldb.Tx, workspace, id string) (Conversation, error) {
	rows, err := queryConversations(ctx, tx, "c.workspace_id = $1 AND c.id = $2", workspace, id)
	switch {
	case err != nil:
		return Conversation{}, err
	case len(rows) == 0:
		return Conversation{}, store.Missing(ctx, tx, workspace, store.KindConversation, id)
	case rows[0].frozen:
		return Conversation{}, problem.Gone("conversation")
	}
	return rows[0].Conversation, nil
}

// conversationShown is conversation for who only asks whether there is one: nothing is counted.
func conversationShown(ctx context.Context, tx *sqldb.Tx, workspace, id string) error {
	var frozen int
	err := tx.QueryRowContext(ctx, "SELECT frozen FROM conversations WHERE last_us > 0 AND workspace_id = $1 AND id = $2", workspace, id).Scan(&frozen)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return store.Missing(ctx, tx, workspace, store.KindConversation, id)
	case err == nil && frozen != 0:
		return problem.Gone("conversation")
	}
	return err
}

var conversationStatuses = []string{"open", "pending", "snoozed", "resolved"}

func invalidStatus() error {
	return problem.Invalid(map[string]string{"status": "must be one of " + strings.Join(conversationStatuses, ", ")})
}

type updateConversation struct {
	ID     string `path:"id" json:"-"`
	Status string `json:"status"`
}

// updateConversation keeps a member's decision together with its time, which is never below what the
// person wrote last: a provider's clock ahead of ours does not undo the decision.
func (a *API) updateConversation(ctx context.Context, req updateConversation) (c Conversation, err error) {
	if !slices.Contains(conversationStatuses, req.Status) {
		return c, invalidStatus()
	}
	now := a.Clock.NowMicros()
	return a.change(ctx, req.ID, func(tx *sqldb.Tx) (bool, error) {
		result, err := tx.ExecContext(ctx, `UPDATE conversations SET status = $2,
			status_us = CASE WHEN last_inbound_us > $3 THEN last_inbound_us ELSE $3 END WHERE id = $1`, req.ID, req.Status, now)
		return changed(result, err)
	})
}

type readConversation struct {
	ID        string  `path:"id" json:"-"`
	MessageID *string `json:"message_id"`
}

func (a *API) readConversation(ctx context.Context, req readConversation) (c Conversation, err error) {
	return a.change(ctx, req.ID, func(tx *sqldb.Tx) (bool, error) {
		var upTo sql.NullInt64
		query, args := "SELECT last_us FROM conversations WHERE id = $1", []any{req.ID}
		if req.MessageID != nil {
			query, args = "SELECT order_us FROM messages WHERE conversation_id = $1 AND id = $2", append(args, *req.MessageID)
		}
		if err := tx.QueryRowContext(ctx, query, args...).Scan(&upTo); errors.Is(err, sql.ErrNoRows) {
			return false, problem.Invalid(map[string]string{"message_id": "is no message of this conversation"})
		} else if err != nil {
			return false, err
		}
		return changed(tx.ExecContext(ctx, "UPDATE conversations SET read_us = $2 WHERE id = $1 AND read_us < $2", req.ID, upTo.Int64))
	})
}

func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// change makes a member's change of a conversation under its lock, tells the stream, and reads it again.
func (a *API) change(ctx context.Context, id string, change func(tx *sqldb.Tx) (changed bool, err error)) (c Conversation, err error) {
	caller, _ := access.From(ctx)
	err = a.DB.Tx(ctx, func(tx *sqldb.Tx) error {
		if _, err := store.LockConversations(ctx, tx, []string{id}); err != nil {
			return err
		}
		before, err := conversation(ctx, tx, caller.WorkspaceID, id)
		if err != nil {
			return err
		}
		if did, err := change(tx); err != nil || !did {
			c = before
			return err
		}
		if c, err = conversation(ctx, tx, caller.WorkspaceID, id); err != nil {
			return err
		}
		event := &pb.ConversationEvent{Type: "conversation.updated", WorkspaceId: caller.WorkspaceID, ConversationId: id}
		if c.ContactID != nil {
			event.ContactId = *c.ContactID
		}
		return store.Append(ctx, tx, a.Clock.NowMicros(), store.Told(event, traceparent(ctx)))
	})
	if err != nil {
		return c, err
	}
	a.Committed()
	return c, a.subjects(ctx, caller.WorkspaceID, &c)
}
