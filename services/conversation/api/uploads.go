package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
	"github.com/google/uuid"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

const (
	// uploadTime is how long a client may take to send a file.
	uploadTime = 5 * time.Minute
	// maxNameBytes bounds a file's name.
	maxNameBytes = 255
	// sniffed is how much of a file tells its type.
	sniffed = 3072
)

// uploadAttachment seals a file while it comes in, under a key of its own, and keeps it for a message of
// the conversation to take.
func (a *API) uploadAttachment(w http.ResponseWriter, r *http.Request) {
	//bound:timeout an upload | {} | the connection is closed
	ctx, cancel := context.WithTimeout(r.Context(), uploadTime)
	defer cancel()
	attachment, err := a.upload(ctx, w, r)
	if err != nil {
		problem.Write(ctx, w, err)
		return
	}
	writeJSON(w, http.StatusCreated, attachment)
}

func (a *API) upload(ctx context.Context, w http.ResponseWriter, r *http.Request) (Attachment, error) {
	if err := access.Require(ctx, access.ConversationsWrite); err != nil {
		return Attachment{}, err
	}
	caller, _ := access.From(ctx)
	if r.ContentLength > a.UploadBytes {
		return Attachment{}, problem.TooLarge()
	}
	name, err := fileName(r.Header.Get("Content-Disposition"))
	if err != nil {
		return Attachment{}, err
	}
	draft, err := a.Sending.Draft(ctx, caller.WorkspaceID, r.PathValue("id"))
	if err != nil {
		return Attachment{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Attachment{}, err
	}
	// Not every server lets deadlines be set; then its own hold.
	control, deadline := http.NewResponseController(w), time.Now().Add(uploadTime)
	_, _ = control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline.Add(time.Minute))
	f := &upload{conversation: r.PathValue("id"), name: name, subject: draft.Subject, ref: &pb.AttachmentRef{Id: id.String()}}
	//bound:limit an uploaded attachment | {bytes Limits.UploadBytes} | 413
	if err := f.store(ctx, a.Bucket, http.MaxBytesReader(w, r.Body, a.UploadBytes)); err != nil {
		return Attachment{}, err
	}
	if err := a.keepUpload(ctx, f); err != nil {
		//bound:timeout taking back an upload that failed | {} | swept later
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return Attachment{}, errors.Join(err, a.Bucket.Delete(ctx, f.ref.GetObject()))
	}
	// No address yet: it is nobody's to read before a message has taken it.
	return Attachment{ID: f.ref.GetId(), Kind: f.ref.GetKind(), Name: f.name, ContentType: f.ref.GetContentType(), Size: f.ref.GetSize(), State: "stored"}, nil
}

// upload is a file on its way to the bucket.
type upload struct {
	conversation, name string
	subject            seal.Subject
	ref                *pb.AttachmentRef
}

// store tells the file's type from its first bytes and stores it; nothing is kept when it fails. The error
// is a Problem.
func (f *upload) store(ctx context.Context, bucket *media.Bucket, body io.Reader) error {
	from := &source{Reader: body}
	head := make([]byte, sniffed)
	n, err := io.ReadFull(from, head)
	if n == 0 && errors.Is(err, io.EOF) {
		return problem.Malformed("the file is empty")
	}
	if err == nil || errors.Is(from.err, io.EOF) {
		detected := mimetype.Detect(head[:n])
		f.ref.ContentType, _, _ = mime.ParseMediaType(detected.String())
		f.ref.Kind = kindOf(f.ref.ContentType)
		if f.name == "" {
			f.name = f.ref.Kind + detected.Extension()
		}
		var stored *pb.AttachmentRef
		if stored, err = bucket.Store(ctx, f.subject, f.ref, io.MultiReader(bytes.NewReader(head[:n]), from)); err == nil {
			f.ref = stored
			return nil
		}
	}
	return from.fault(ctx, err)
}

// source remembers whether it was the client who failed.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (n int, err error) {
	n, err = s.Reader.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

func (s *source) fault(ctx context.Context, err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(s.err, &tooLarge):
		return problem.TooLarge()
	case ctx.Err() != nil:
		return ctx.Err()
	case s.err != nil && !errors.Is(s.err, io.EOF):
		return problem.Malformed("the body ended early")
	}
	telemetry.From(ctx).Log.WarnContext(ctx, "attachment was not stored", "error", err)
	return problem.Unavailable("the store of attachments")
}

// originUpload binds the name of a file that no message has taken yet.
func originUpload(id string) seal.Origin { return seal.Origin("upload/" + id) }

func (a *API) keepUpload(ctx context.Context, f *upload) error {
	name, err := seal.Seal(f.subject, pb.Category_CATEGORY_CONTENT, originUpload(f.ref.GetId()), []byte(f.name))
	if err != nil {
		return err
	}
	return a.DB.Tx(ctx, func(tx *sqldb.Tx) error {
		alive, err := store.LockSubjects(ctx, tx, []store.Subject{{ID: f.subject.ID, Workspace: f.subject.Workspace, KeyID: f.subject.KeyID}})
		if err != nil {
			return err
		}
		if s, ok := alive[f.subject.ID]; !ok || s.Frozen {
			return problem.Gone("conversation")
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO uploads (id, workspace_id, conversation_id, subject_id, key_id, object_key, name,
			kind, content_type, size, object, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			f.ref.GetId(), f.subject.Workspace, f.conversation, f.subject.ID, f.subject.KeyID, f.ref.GetKey().GetCiphertext(), name.GetCiphertext(),
			f.ref.GetKind(), f.ref.GetContentType(), f.ref.GetSize(), f.ref.GetObject(), a.Clock.NowMicros())
		return err
	})
}

// uploads gives the files that a message of the conversation is to take, in the order asked; 422 where
// one is not there, or not there any more.
func (a *API) uploads(ctx context.Context, workspace, conversation string, subject seal.Subject, ids []string) ([]sending.Attachment, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	found := map[string]sending.Attachment{}
	err := a.DB.View(ctx, func(tx *sqldb.Tx) error {
		list, args := sqldb.In(3, ids)
		return sqldb.Query(ctx, tx, `SELECT id, subject_id, key_id, object_key, name, kind, content_type, size, object FROM uploads
			WHERE workspace_id = $1 AND conversation_id = $2 AND id IN (`+list+`)`, append([]any{workspace, conversation}, args...),
			func(rows sqldb.Row) error {
				var at sending.Attachment
				key := &pb.SealedPart{Category: pb.Category_CATEGORY_CONTENT}
				name := &pb.SealedPart{Category: pb.Category_CATEGORY_CONTENT}
				if err := rows.Scan(&at.ID, &key.SubjectId, &key.KeyId, &key.Ciphertext, &name.Ciphertext,
					&at.Kind, &at.ContentType, &at.Size, &at.Object); err != nil {
					return err
				}
				name.SubjectId, name.KeyId, at.Key = key.SubjectId, key.KeyId, key
				// One of another subject does not open, and is as if it were not there.
				if plain, err := seal.OpenWith(subject, name, originUpload(at.ID)); err == nil {
					at.Name = string(plain)
					found[at.ID] = at
				}
				return nil
			})
	})
	if err != nil {
		return nil, err
	}
	attachments := make([]sending.Attachment, len(ids))
	for i, id := range ids {
		at, ok := found[id]
		if !ok {
			return nil, notUploaded()
		}
		attachments[i] = at
	}
	return attachments, nil
}

func notUploaded() error {
	return problem.Invalid(map[string]string{"attachments": "name a file that was not uploaded to this conversation, or was sent before"})
}

// takeUploads takes the files out of the waiting ones; of two messages that want the same, one gets it.
func takeUploads(ctx context.Context, tx *sqldb.Tx, conversation string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	list, args := sqldb.In(2, ids)
	result, err := tx.ExecContext(ctx, "DELETE FROM uploads WHERE conversation_id = $1 AND id IN ("+list+")", append([]any{conversation}, args...)...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(ids)) {
		return errors.Join(err, notUploaded())
	}
	return nil
}

// fileName reads the name of a Content-Disposition (RFC 6266): the last element of what may be a path,
// without control characters. Empty where there is none.
func fileName(disposition string) (string, error) {
	if disposition == "" {
		return "", nil
	}
	_, params, err := mime.ParseMediaType(disposition)
	name := params["filename"]
	if err != nil || !utf8.ValidString(name) || len(name) > maxNameBytes {
		return "", problem.Invalid(map[string]string{"Content-Disposition": `must be like attachment; filename="offer.pdf", with a name of at most 255 bytes`})
	}
	name = path.Base("/" + strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, name)
	return strings.Trim(name, "/. "), nil
}

func kindOf(contentType string) string {
	switch kind, _, _ := strings.Cut(contentType, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "file"
}

// uploadsKept is how long a file waits for a message.
const uploadsKept = 24 * time.Hour

// SweepUploads gives files that no message has taken for a day to the deletion of objects.
func (a *API) SweepUploads(ctx context.Context) error {
	now := a.Clock.Now()
	return a.DB.Tx(ctx, func(tx *sqldb.Tx) error {
		var objects [][]any
		err := sqldb.Query(ctx, tx, "DELETE FROM uploads WHERE at_us < $1 RETURNING object", []any{now.Add(-uploadsKept).UnixMicro()},
			func(rows sqldb.Row) error {
				var object string
				err := rows.Scan(&object)
				objects = append(objects, []any{object, now.UnixMicro()})
				return err
			})
		if err != nil {
			return err
		}
		store.SortRows(objects)
		return sqldb.InsertRows(ctx, tx, "object_deletions", []string{"object", "at_us"}, objects, "ON CONFLICT DO NOTHING", nil)
	})
}
