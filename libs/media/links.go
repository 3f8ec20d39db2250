package media

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// LinkFor is how long an address of Links works: a provider fetches what it was given within minutes, and
// tries again a few times.
const LinkFor = time.Hour

// Links gives stored attachments addresses that a provider can fetch them at: public, signed, and of an
// hour. Whoever has such an address has the file, so it goes to the provider alone and into no log. Once
// the person's key is gone an address opens nothing.
type Links struct {
	base   string
	secret []byte
	bucket *Bucket
	keys   Opener
	now    func() time.Time
}

// Opener is what Links needs of seal.Client.
type Opener interface {
	Open(ctx context.Context, purpose pb.Purpose, parts []seal.Sealed) ([]seal.Opened, error)
}

// NewLinks makes links below base, where Links must be served at base/{token}; an empty base makes none.
// All replicas must have the same secret.
func NewLinks(base string, secret []byte, bucket *Bucket, keys Opener, now func() time.Time) *Links {
	return &Links{base: strings.TrimSuffix(base, "/"), secret: secret, bucket: bucket, keys: keys, now: now}
}

// URL is an address of an attachment; empty where the mesh has no public address.
func (l *Links) URL(workspaceID, attachmentID string) string {
	if l.base == "" {
		return ""
	}
	claim := workspaceID + "/" + attachmentID + "/" + strconv.FormatInt(l.now().Add(LinkFor).Unix(), 36)
	return l.base + "/" + base64.RawURLEncoding.EncodeToString(append(l.mac(claim), claim...))
}

func (l *Links) mac(claim string) []byte {
	h := hmac.New(sha256.New, l.secret)
	h.Write(binary.AppendUvarint(nil, uint64(len(claim))))
	h.Write([]byte(claim))
	return h.Sum(nil)
}

// read gives what a token stands for; false where it is none of ours, or is over.
func (l *Links) read(token string) (workspaceID, attachmentID string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size {
		return "", "", false
	}
	claim := string(raw[sha256.Size:])
	if !hmac.Equal(l.mac(claim), raw[:sha256.Size]) {
		return "", "", false
	}
	fields := strings.Split(claim, "/")
	if len(fields) != 3 {
		return "", "", false
	}
	until, err := strconv.ParseInt(fields[2], 36, 64)
	return fields[0], fields[1], err == nil && l.now().Unix() < until
}

// ServeHTTP serves an attachment by its token (the path value "token"): 404 for every token that does not
// work, and for a file that is gone; 503 while the key registry is away.
func (l *Links) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	//bound:timeout serving a link to an attachment | {} | the connection is closed
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	workspace, attachment, ok := l.read(r.PathValue("token"))
	if !ok {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	ref, plain, err := l.open(ctx, workspace, attachment)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, seal.ErrGone), errors.Is(err, seal.ErrRestricted):
		http.Error(w, "no such file", http.StatusNotFound)
		return
	case err != nil:
		telemetry.From(ctx).Log.WarnContext(ctx, "media: a link was not served", "attachment_id", attachment, "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	defer plain.Close()
	h := w.Header()
	h.Set("Content-Type", ref.GetContentType())
	h.Set("Content-Length", strconv.FormatInt(ref.GetSize(), 10))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-store")
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(w, plain); err != nil {
		panic(http.ErrAbortHandler) // so that what was sent does not look whole
	}
}

func (l *Links) open(ctx context.Context, workspace, attachment string) (*pb.AttachmentRef, io.ReadCloser, error) {
	ref, err := l.bucket.Find(ctx, ObjectName(workspace, attachment))
	if err != nil {
		return nil, nil, err
	}
	opened, err := l.keys.Open(ctx, pb.Purpose_PURPOSE_DELIVERY, []seal.Sealed{{
		Workspace: workspace, Part: ref.GetKey(), Origin: seal.OriginAttachment(attachment),
	}})
	if err != nil {
		return nil, nil, err
	}
	if opened[0].Err != nil {
		return nil, nil, opened[0].Err
	}
	plain, err := l.bucket.Open(ctx, ref.GetObject(), opened[0].Plain)
	return ref, plain, err
}
