package api

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// downloadTime is how long a client may take to receive a file.
const downloadTime = 10 * time.Minute

// downloadAttachment streams an attachment as it is opened. Whatever the file is, a browser saves it and
// neither shows nor runs it. A stored object that turns out cut or altered ends the connection: the
// client sees that it has not all of it.
func (a *API) downloadAttachment(w http.ResponseWriter, r *http.Request) {
	//bound:timeout a download | {} | the connection is closed
	ctx, cancel := context.WithTimeout(r.Context(), downloadTime)
	defer cancel()
	f, err := a.openAttachment(ctx, r.PathValue("id"))
	if err != nil {
		problem.Write(ctx, w, err)
		return
	}
	defer func() { _ = f.plain.Close() }() // it was only read
	first := make([]byte, 1)
	n, err := io.ReadFull(f.plain, first) // so that a file that does not open at all is still answered as that
	if err != nil && !errors.Is(err, io.EOF) {
		problem.Write(ctx, w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-store")
	// Not every server lets a deadline be set; then its own holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTime))
	if _, err := w.Write(first[:n]); err != nil {
		return // the client has gone
	}
	if _, err := io.Copy(w, f.plain); err != nil && ctx.Err() == nil {
		telemetry.From(ctx).Log.WarnContext(ctx, "attachment was not sent to its end", "attachment_id", r.PathValue("id"), "error", err)
		panic(http.ErrAbortHandler)
	}
}

// openedAttachment is one that is being read.
type openedAttachment struct {
	name, contentType string
	plain             io.ReadCloser
}

func (a *API) openAttachment(ctx context.Context, id string) (*openedAttachment, error) {
	if err := access.Require(ctx, access.ConversationsRead); err != nil {
		return nil, err
	}
	caller, _ := access.From(ctx)
	var message *messageRow
	var at attachmentRow
	var key sealedColumns
	err := a.DB.View(ctx, func(tx *sqldb.Tx) error {
		var messageID string
		err := tx.QueryRowContext(ctx, `SELECT id, kind, content_type, size, object, failed, message_id, key_subject, key_id, ciphertext
			FROM attachments WHERE id = $1 AND workspace_id = $2 AND declared = 1`, id, caller.WorkspaceID).
			Scan(&at.id, &at.kind, &at.contentType, &at.size, &at.object, &at.failed, &messageID, &key.subject, &key.key, &key.ciphertext)
		if errors.Is(err, sql.ErrNoRows) {
			return problem.NotFound("attachment")
		}
		if err != nil {
			return err
		}
		rows, err := messageOf(ctx, tx, caller.WorkspaceID, messageID)
		if err != nil {
			return err
		}
		message = rows[0]
		return nil
	})
	if err != nil {
		return nil, err
	}
	if at.object == "" || message.deleted != 0 {
		return nil, problem.NotFound("attachment")
	}
	var objectKey []byte
	var fault error
	o := &opening{workspace: caller.WorkspaceID}
	o.add(key, pb.Category_CATEGORY_CONTENT, seal.OriginAttachment(at.id), func(plain []byte, err error) { objectKey, fault = plain, err })
	message.ask(o)
	if err := o.open(ctx, a.Seal, pb.Purpose_PURPOSE_CONVERSATION); err != nil {
		return nil, err
	}
	name, _, named := message.names(at.id)
	switch {
	case !named:
		return nil, problem.NotFound("attachment")
	case errors.Is(fault, seal.ErrGone):
		return nil, problem.Gone("attachment")
	case errors.Is(fault, seal.ErrRestricted):
		return nil, problem.Conflict("the processing of this person's data is restricted")
	case fault != nil:
		return nil, fault
	}
	f := &openedAttachment{name: name, contentType: at.contentType}
	if f.contentType == "" {
		f.contentType = "application/octet-stream"
	}
	if f.name == "" {
		f.name = at.id
	}
	f.plain, err = a.Bucket.Open(ctx, at.object, objectKey)
	switch {
	case errors.Is(err, media.ErrNotFound):
		return nil, problem.Gone("attachment")
	case errors.Is(err, seal.ErrForged):
		return nil, err
	case err != nil:
		return nil, problem.Unavailable("the store of attachments")
	}
	return f, nil
}

// writeJSON is for handlers whose request is no JSON.
func writeJSON(w http.ResponseWriter, status int, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // the API's objects always encode
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n')) // the caller has gone; there is nobody to tell
}
