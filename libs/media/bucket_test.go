package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func eachBucket(t *testing.T, f func(t *testing.T, b *Bucket)) {
	for name, url := range map[string]string{"memory": "mem://", "folder": "file://" + filepath.Join(t.TempDir(), "bucket")} {
		t.Run(name, func(t *testing.T) {
			b, err := OpenBucket(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			f(t, b)
		})
	}
}

func subject() seal.Subject {
	return seal.Subject{ID: "s1", KeyID: "k1", Workspace: "w1", State: pb.SubjectState_SUBJECT_STATE_ACTIVE, Key: seal.NewObjectKey()}
}

func read(t *testing.T, b *Bucket, s seal.Subject, ref *pb.AttachmentRef) []byte {
	t.Helper()
	key, err := seal.OpenWith(s, ref.GetKey(), seal.OriginAttachment(ref.GetId()))
	require.NoError(t, err)
	r, err := b.Open(t.Context(), ref.GetObject(), key)
	require.NoError(t, err)
	defer r.Close()
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	return plain
}

func TestWhatIsStoredIsFoundAndOpens(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket) {
		for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 300_000} {
			s, plain := subject(), bytes.Repeat([]byte{7}, size)
			ref := &pb.AttachmentRef{Id: "a" + string(rune('0'+size%7)), Kind: "image", ContentType: "image/png"}
			stored, err := b.Store(t.Context(), s, ref, bytes.NewReader(plain))
			require.NoError(t, err)
			require.EqualValues(t, size, stored.GetSize())
			require.True(t, bytes.Equal(plain, read(t, b, s, stored)))

			found, err := b.Find(t.Context(), stored.GetObject())
			require.NoError(t, err)
			require.True(t, proto.Equal(stored, found), "%v\n%v", stored, found)
			require.NoError(t, b.Delete(t.Context(), stored.GetObject()))
			_, err = b.Find(t.Context(), stored.GetObject())
			require.ErrorIs(t, err, ErrNotFound)
			require.NoError(t, b.Delete(t.Context(), stored.GetObject()))
		}
	})
}

func TestStoringTwiceChangesNothing(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket) {
		s, ref := subject(), &pb.AttachmentRef{Id: "a1"}
		first, err := b.Store(t.Context(), s, ref, bytes.NewReader([]byte("first")))
		require.NoError(t, err)
		second, err := b.Store(t.Context(), s, ref, bytes.NewReader([]byte("second")))
		require.NoError(t, err)
		require.True(t, proto.Equal(first, second))
		require.Equal(t, "first", string(read(t, b, s, second)))
	})
}

// Two events of one message, or one that came twice, are fetched side by side.
func TestWhoStoresAtOnceTellsOfOneObject(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket) {
		s := subject()
		for round := range 30 {
			ref := &pb.AttachmentRef{Id: fmt.Sprintf("a%d", round)}
			var wg sync.WaitGroup
			told := make([]*pb.AttachmentRef, 8)
			for i := range told {
				wg.Go(func() {
					var err error
					told[i], err = b.Store(t.Context(), s, ref, bytes.NewReader([]byte(fmt.Sprint(i))))
					assert.NoError(t, err)
				})
			}
			wg.Wait()
			for _, other := range told {
				require.True(t, proto.Equal(told[0], other), "%v\n%v", told[0], other)
			}
			require.Len(t, read(t, b, s, told[0]), 1)
		}
	})
}

func TestNothingIsKeptOfWhatFails(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket) {
		cut := errors.New("cut")
		plain := io.MultiReader(bytes.NewReader(make([]byte, 200_000)), iotest.ErrReader(cut))
		_, err := b.Store(t.Context(), subject(), &pb.AttachmentRef{Id: "a1"}, plain)
		require.ErrorIs(t, err, cut)
		_, err = b.Find(t.Context(), ObjectName("w1", "a1"))
		require.ErrorIs(t, err, ErrNotFound)
	})
}

func TestAnObjectOfSomebodyElsesIsForged(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket) {
		stored, err := b.Store(t.Context(), subject(), &pb.AttachmentRef{Id: "a1"}, bytes.NewReader([]byte("x")))
		require.NoError(t, err)
		r, err := b.Open(t.Context(), stored.GetObject(), seal.NewObjectKey())
		require.NoError(t, err)
		defer r.Close()
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, seal.ErrForged)
	})
	t.Run("outside of the attachments nothing is read", func(t *testing.T) {
		b, err := OpenBucket(t.Context(), "mem://")
		require.NoError(t, err)
		defer b.Close()
		_, err = b.Find(t.Context(), "../secret")
		require.ErrorIs(t, err, ErrNotFound)
	})
}

func TestAFolderIsItsOwnersAndHoldsNoPlainByte(t *testing.T) {
	root := filepath.Join(t.TempDir(), "bucket")
	b, err := OpenBucket(context.Background(), "file://"+root)
	require.NoError(t, err)
	defer b.Close()
	_, err = b.Store(t.Context(), subject(), &pb.AttachmentRef{Id: "a1"}, bytes.NewReader([]byte("canary canary")))
	require.NoError(t, err)
	info, err := os.Stat(root)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		require.False(t, bytes.Contains(content, []byte("canary")))
		return err
	}))
	require.Equal(t, 1, files)
}
