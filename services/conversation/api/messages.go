package api

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/sending"
)

type listMessages struct {
	ID    string `path:"id" json:"-"`
	Order string `query:"order" json:"-"`
	endpointx.Paging
}

// A conversation's messages before and after a place in it, read along the index messages_conversation.
const (
	messagesBefore = shown + " AND m.conversation_id = $1 AND (m.order_us, m.id) < ($2, $3) ORDER BY m.order_us DESC, m.id DESC LIMIT $4"
	messagesAfter  = shown + " AND m.conversation_id = $1 AND (m.order_us, m.id) > ($2, $3) ORDER BY m.order_us, m.id LIMIT $4"
)

func (a *API) listMessages(ctx context.Context, req listMessages) (page endpointx.Page[Message], err error) {
	caller, _ := access.From(ctx)
	condition := messagesBefore
	from, fromID := int64(math.MaxInt64), ""
	switch req.Order {
	case "", "desc":
	case "asc":
		condition = messagesAfter
		from = math.MinInt64
	default:
		return page, problem.Invalid(map[string]string{"order": "must be asc or desc"})
	}
	if err := req.Behind(&from, &fromID); err != nil {
		return page, err
	}
	page.Items, err = a.view(ctx, caller.WorkspaceID, pb.Purpose_PURPOSE_CONVERSATION, func(tx *sqldb.Tx) ([]*messageRow, error) {
		page.NextCursor = ""
		if err := conversationShown(ctx, tx, caller.WorkspaceID, req.ID); err != nil {
			return nil, err
		}
		rows, err := queryMessages(ctx, tx, condition, req.ID, from, fromID, req.Size()+1)
		if err != nil || len(rows) <= req.Size() {
			return rows, err
		}
		rows = rows[:req.Size()]
		last := rows[len(rows)-1]
		page.NextCursor = req.Next(last.order, last.id)
		return rows, nil
	})
	return page, err
}

func (a *API) getMessage(ctx context.Context, req byID) (Message, error) {
	return a.message(ctx, req.ID)
}

// message reads one of the caller's workspace: 404 where there is none, 410 where its conversation or its
// author is frozen.
func (a *API) message(ctx context.Context, id string) (Message, error) {
	caller, _ := access.From(ctx)
	found, err := a.view(ctx, caller.WorkspaceID, pb.Purpose_PURPOSE_CONVERSATION, func(tx *sqldb.Tx) ([]*messageRow, error) {
		return messageOf(ctx, tx, caller.WorkspaceID, id)
	})
	if err != nil {
		return Message{}, err
	}
	return found[0], nil
}

// messageOf gives exactly one row, or a Problem.
func messageOf(ctx context.Context, tx *sqldb.Tx, workspace, id string) ([]*messageRow, error) {
	rows, err := queryMessages(ctx, tx, shown+" AND m.id = $1 AND m.workspace_id = $2", id, workspace)
	if err != nil || len(rows) > 0 {
		return rows, err
	}
	var one int
	err = tx.QueryRowContext(ctx, "SELECT 1 FROM messages WHERE id = $1 AND workspace_id = $2", id, workspace).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, problem.NotFound("message")
	case err != nil:
		return nil, err
	}
	return nil, problem.Gone("message")
}

type postMessage struct {
	ID          string   `path:"id" json:"-"`
	Text        string   `json:"text"`
	Attachments []string `json:"attachments"`
	Type        string   `json:"type"`
	ReplyTo     string   `json:"reply_to"`
}

func (req *postMessage) Validate() error {
	faults := map[string]string{}
	switch {
	case req.Text != "" && strings.TrimSpace(req.Text) == "":
		faults["text"] = "must hold more than white space"
	case strings.ContainsFunc(req.Text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }):
		faults["text"] = "must have no control characters but line ends and tabs"
	}
	if req.Type != "" && req.Type != "message" && req.Type != "note" {
		faults["type"] = "must be message or note"
	}
	seen := map[string]bool{}
	for _, id := range req.Attachments {
		if seen[id] {
			faults["attachments"] = "names one twice"
		}
		seen[id] = true
	}
	if len(req.Attachments) > sending.MaxAttachments {
		faults["attachments"] = "are too many"
	}
	if len(faults) > 0 {
		return problem.Invalid(faults)
	}
	return nil
}

// postMessage answers what was made, now or by an earlier request with the same Idempotency-Key. Uploads
// are taken in the transaction that posts: each by one message.
func (a *API) postMessage(ctx context.Context, req postMessage) (Message, error) {
	caller, _ := access.From(ctx)
	// What asks the registry happens before the transaction. A fault counts only where this is no
	// repetition: the first request took the uploads that the second one misses.
	draft, fault := a.draft(ctx, caller, req)
	var id string
	err := a.DB.Tx(ctx, func(tx *sqldb.Tx) (err error) {
		id, _, err = a.Idempotency.Do(ctx, tx, func() (string, error) {
			if fault != nil {
				return "", fault
			}
			if err := takeUploads(ctx, tx, req.ID, req.Attachments); err != nil {
				return "", err
			}
			return draft.MessageID, a.Sending.Post(ctx, tx, draft)
		})
		return err
	})
	if err != nil {
		return Message{}, err
	}
	a.Committed()
	return a.message(ctx, id)
}

func (a *API) draft(ctx context.Context, caller access.Caller, req postMessage) (*sending.Draft, error) {
	draft, err := a.Sending.Draft(ctx, caller.WorkspaceID, req.ID)
	if err != nil {
		return nil, err
	}
	message := sending.Message{Text: req.Text, ReplyTo: req.ReplyTo, MemberID: caller.MemberID, Note: req.Type == "note"}
	if message.Attachments, err = a.uploads(ctx, caller.WorkspaceID, req.ID, draft.Subject, req.Attachments); err != nil {
		return nil, err
	}
	return draft, a.Sending.Compose(ctx, draft, message)
}

func (a *API) retryMessage(ctx context.Context, req byID) (Message, error) {
	caller, _ := access.From(ctx)
	if err := a.DB.View(ctx, func(tx *sqldb.Tx) error {
		_, err := messageOf(ctx, tx, caller.WorkspaceID, req.ID)
		return err
	}); err != nil {
		return Message{}, err
	}
	if err := a.Sending.Retry(ctx, caller.WorkspaceID, req.ID); err != nil {
		return Message{}, err
	}
	return a.message(ctx, req.ID)
}
