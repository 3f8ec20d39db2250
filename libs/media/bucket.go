package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // standalone
	_ "gocloud.dev/blob/memblob"  // tests
	"gocloud.dev/gcerrors"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// ErrNotFound: no such object.
var ErrNotFound = errors.New("media: no such object")

// Bucket keeps attachments, each sealed under a key of its own which is wrapped under a subject's key.
//
// An object is its clear AttachmentRef with the wrapped key, the sealed stream, and the size of what was
// sealed. So an object and the key that opens it can never be parted, and whoever meets the same
// attachment again finds all there is to say of it without fetching it again.
type Bucket struct {
	bucket *blob.Bucket
	folder string // of a file:// bucket
}

const (
	// maxHeader bounds what is read before a stream.
	maxHeader = 64 << 10
	// trailer is the size, big-endian.
	trailer = 8
	//bound:timeout asking the bucket for an object, or deleting it | {} | fails; who asks tries again
	askWithin = 30 * time.Second
	//bound:timeout storing an object | {} | nothing is kept; who stores tries again
	storeWithin = 10 * time.Minute
)

// OpenBucket opens a gocloud.dev/blob URL. file:// and mem:// are linked here, other drivers by the
// binaries that want them. A folder is made, for its owner alone, and files are written beside their final
// place (a rename does not cross volumes) without gocloud's attribute files, which nothing here needs.
func OpenBucket(ctx context.Context, bucketURL string) (*Bucket, error) {
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, errors.New("media: the bucket's URL can't be read")
	}
	if u.Scheme == "file" {
		q := u.Query()
		for name, value := range map[string]string{"create_dir": "1", "dir_file_mode": "0700", "no_tmp_dir": "1", "metadata": "skip"} {
			if !q.Has(name) {
				q.Set(name, value)
			}
		}
		u.RawQuery = q.Encode()
	}
	opened, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("media: open bucket: %w", err)
	}
	b := NewBucket(opened)
	if u.Scheme == "file" {
		b.folder = filepath.FromSlash(u.Path)
	}
	return b, nil
}

// NewBucket keeps attachments in b, and closes it.
func NewBucket(b *blob.Bucket) *Bucket { return &Bucket{bucket: b} }

// Close closes the bucket.
func (b *Bucket) Close() error { return b.bucket.Close() }

// ObjectName is where an attachment lies in the bucket.
func ObjectName(workspaceID, attachmentID string) string {
	return "attachments/" + workspaceID + "/" + attachmentID
}

// Store seals plain for a subject and keeps it as the object of ref.Id. It returns ref completed: object,
// size and wrapped key. Where the attachment is already there that one stays and is returned, so storing
// twice changes nothing. Nothing is kept when plain fails.
func (b *Bucket) Store(ctx context.Context, subject seal.Subject, ref *pb.AttachmentRef, plain io.Reader) (*pb.AttachmentRef, error) {
	stored := proto.CloneOf(ref)
	stored.Object, stored.Size, stored.Failed = ObjectName(subject.Workspace, ref.GetId()), 0, ""
	key := seal.NewObjectKey()
	var err error
	if stored.Key, err = seal.Seal(subject, pb.Category_CATEGORY_CONTENT, seal.OriginAttachment(ref.GetId()), key); err != nil {
		return nil, err
	}
	//bound:exempt storeWithin says it
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	var file *os.File // of a file:// bucket, until it is renamed
	w, err := b.bucket.NewWriter(ctx, stored.GetObject(), &blob.WriterOptions{
		ContentType: "application/octet-stream", DisableContentTypeDetection: true, IfNotExist: true,
		BeforeWrite: func(as func(any) bool) error {
			as(&file)
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("media: store: %w", err)
	}
	stored.Size, err = writeObject(w, stored, key, plain)
	if err != nil {
		cancel() // a writer that is closed with its context cancelled keeps nothing
		_ = w.Close()
		return nil, err
	}
	if file != nil && b.folder != "" {
		// gocloud looks for the file and then renames its own: of two writers at once the last wins, and the other tells
		// of a key that opens nothing. A link is made by one alone.
		if os.Link(file.Name(), filepath.Join(b.folder, filepath.FromSlash(stored.GetObject()))) == nil {
			_ = w.Close() // finds the file, and takes its own away
			return stored, nil
		}
	}
	err = w.Close()
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return b.Find(ctx, stored.GetObject())
	}
	if err != nil {
		return nil, fmt.Errorf("media: store: %w", err)
	}
	return stored, nil
}

func writeObject(w io.Writer, ref *pb.AttachmentRef, key []byte, plain io.Reader) (size int64, err error) {
	head, err := proto.Marshal(ref)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(head))), head...)); err != nil {
		return 0, err
	}
	sealed, err := seal.SealWriter(key, w)
	if err != nil {
		return 0, err
	}
	if size, err = io.Copy(sealed, plain); err != nil {
		return 0, err
	}
	if err := sealed.Close(); err != nil {
		return 0, err
	}
	_, err = w.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	return size, err
}

// Find gives what is known of an object: its ref with size and wrapped key. ErrNotFound where there is
// none.
func (b *Bucket) Find(ctx context.Context, object string) (*pb.AttachmentRef, error) {
	//bound:exempt askWithin says it
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r, ref, _, err := b.open(ctx, object)
	if err != nil {
		return nil, err
	}
	total := r.Size()
	if err := r.Close(); err != nil {
		return nil, err
	}
	tail, err := b.bucket.NewRangeReader(ctx, object, total-trailer, trailer, nil)
	if err != nil {
		return nil, fault(err)
	}
	defer tail.Close()
	var size [trailer]byte
	if _, err := io.ReadFull(tail, size[:]); err != nil {
		return nil, cut(err)
	}
	ref.Size = int64(binary.BigEndian.Uint64(size[:]))
	return ref, nil
}

// Open gives the plain bytes of an object; key is what the ref's wrapped key opens to. Reading fails with
// seal.ErrForged for anything else than the whole object. ErrNotFound where there is none. ctx bounds the
// reading too, until it is closed.
func (b *Bucket) Open(ctx context.Context, object string, key []byte) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	//bound:exempt askWithin says it
	late := time.AfterFunc(askWithin, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	r, _, head, err := b.open(ctx, object)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	plain, err := seal.OpenReader(key, io.LimitReader(r, r.Size()-head-trailer))
	if err != nil {
		r.Close()
		cancel(nil)
		return nil, err
	}
	return opened{plain, r, cancel}, nil
}

// opened is an object being read.
type opened struct {
	io.Reader
	object *blob.Reader
	cancel context.CancelCauseFunc
}

func (o opened) Close() error {
	err := o.object.Close()
	o.cancel(nil)
	return err
}

// Delete removes an object; one that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, object string) error {
	//bound:exempt askWithin says it
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	err := b.bucket.Delete(ctx, object)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return fault(err)
}

// open reads up to the sealed stream, which begins after head bytes.
func (b *Bucket) open(ctx context.Context, object string) (r *blob.Reader, ref *pb.AttachmentRef, head int64, err error) {
	if !strings.HasPrefix(object, "attachments/") {
		return nil, nil, 0, ErrNotFound
	}
	r, err = b.bucket.NewReader(ctx, object, nil)
	if err != nil {
		return nil, nil, 0, fault(err)
	}
	ref, head, err = readHead(r)
	if err != nil {
		r.Close()
		return nil, nil, 0, err
	}
	return r, ref, head, nil
}

func readHead(r io.Reader) (ref *pb.AttachmentRef, size int64, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, 0, cut(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxHeader {
		return nil, 0, seal.ErrForged
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, cut(err)
	}
	ref = &pb.AttachmentRef{}
	if err := proto.Unmarshal(head, ref); err != nil {
		return nil, 0, seal.ErrForged
	}
	return ref, int64(len(length)) + int64(n), nil
}

// cut: an object that ends too early is none of ours; another error is the bucket's.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return seal.ErrForged
	}
	return fault(err)
}

func fault(err error) error {
	switch {
	case err == nil:
		return nil
	case gcerrors.Code(err) == gcerrors.NotFound:
		return ErrNotFound
	}
	return fmt.Errorf("media: bucket: %w", err)
}
