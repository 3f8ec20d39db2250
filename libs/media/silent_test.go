package media_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// silent is a bucket that never answers.
type silent struct{ driver.Bucket }

func (silent) NewRangeReader(ctx context.Context, _ string, _, _ int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silent) NewTypedWriter(ctx context.Context, _, _ string, _ *driver.WriterOptions) (driver.Writer, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silent) Delete(ctx context.Context, _ string, _ *driver.DeleteOptions) error {
	<-ctx.Done()
	return ctx.Err()
}

func (silent) ErrorCode(error) gcerrors.ErrorCode { return gcerrors.Unknown }
func (silent) ErrorAs(error, any) bool            { return false }
func (silent) Close() error                       { return nil }

func TestABucketThatFallsSilentIsGivenUp(t *testing.T) {
	subject := seal.Subject{ID: "s1", KeyID: "k1", Workspace: "w1", State: pb.SubjectState_SUBJECT_STATE_ACTIVE, Key: make([]byte, seal.KeySize)}
	for name, call := range map[string]func(ctx context.Context, b *media.Bucket) error{
		"find": func(ctx context.Context, b *media.Bucket) error {
			_, err := b.Find(ctx, "attachments/w1/a1")
			return err
		},
		"open": func(ctx context.Context, b *media.Bucket) error {
			_, err := b.Open(ctx, "attachments/w1/a1", seal.NewObjectKey())
			return err
		},
		"delete": func(ctx context.Context, b *media.Bucket) error { return b.Delete(ctx, "attachments/w1/a1") },
		"store": func(ctx context.Context, b *media.Bucket) error {
			_, err := b.Store(ctx, subject, &pb.AttachmentRef{Id: "a1"}, strings.NewReader("plain"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := media.NewBucket(blob.NewBucket(silent{}))
				defer b.Close()
				began := time.Now()
				require.Error(t, call(t.Context(), b))
				require.LessOrEqual(t, time.Since(began), 10*time.Minute)
			})
		})
	}
}
