package seal_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"tributary.dev/libs/seal"
)

const (
	prefix = 7
	chunk  = 64<<10 + 16
)

func sealObject(t require, key, plain []byte, writes ...int) []byte {
	var out bytes.Buffer
	w, err := seal.SealWriter(key, &out)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, n := range writes {
		n = min(n, len(plain))
		if _, err := w.Write(plain[:n]); err != nil {
			t.Fatalf("%v", err)
		}
		plain = plain[n:]
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatalf("%v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("%v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("closed twice: %v", err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatalf("written after close")
	}
	return out.Bytes()
}

type require interface{ Fatalf(string, ...any) }

func openObject(key, sealed []byte) ([]byte, error) {
	r, err := seal.OpenReader(key, bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestAnObjectComesBackWhateverItsSizeAndWrites(t *testing.T) {
	key := seal.NewObjectKey()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(64<<10-2, 64<<10+2), rapid.IntRange(128<<10-2, 128<<10+2), rapid.IntRange(0, 300<<10)).Draw(t, "size")
		plain := bytes.Repeat([]byte{0xA5, 1, 2}, size/3+1)[:size]
		sealed := sealObject(t, key, plain, rapid.SliceOfN(rapid.IntRange(0, 70<<10), 0, 4).Draw(t, "writes")...)
		got, err := openObject(key, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes of %d, %v", len(got), size, err)
		}
	})
}

func TestAnObjectThatIsNotWholeDoesNotOpen(t *testing.T) {
	key := seal.NewObjectKey()
	plain := bytes.Repeat([]byte("0123456789abcdef"), 3*(64<<10)/16) // three full chunks
	sealed := sealObject(t, key, plain)
	if len(sealed) != prefix+3*chunk {
		t.Fatalf("%d bytes", len(sealed))
	}
	at := func(i int) []byte { return sealed[prefix+i*chunk : prefix+(i+1)*chunk] }
	flip := func(i int) []byte { c := slices.Clone(sealed); c[i] ^= 1; return c }
	for name, s := range map[string][]byte{
		"nothing":          nil,
		"prefix cut":       sealed[:3],
		"prefix alone":     sealed[:prefix],
		"two chunks":       sealed[:prefix+2*chunk],
		"one byte less":    sealed[:len(sealed)-1],
		"one byte more":    append(slices.Clone(sealed), 0),
		"swapped":          slices.Concat(sealed[:prefix], at(1), at(0), at(2)),
		"repeated":         slices.Concat(sealed[:prefix], at(0), at(0), at(1), at(2)),
		"first left out":   slices.Concat(sealed[:prefix], at(1), at(2)),
		"last alone":       slices.Concat(sealed[:prefix], at(2)),
		"of another":       slices.Concat(sealObject(t, key, plain)[:prefix+chunk], at(1), at(2)),
		"prefix flipped":   flip(0),
		"body flipped":     flip(prefix + chunk + 5),
		"last tag flipped": flip(len(sealed) - 1),
	} {
		got, err := openObject(key, s)
		if !errors.Is(err, seal.ErrForged) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: gave what was not sealed there", name)
		}
	}
	if _, err := openObject(seal.NewObjectKey(), sealed); !errors.Is(err, seal.ErrForged) {
		t.Errorf("another key: %v", err)
	}
}

func TestFaultsOfTheUnderlyingStreamArePassedOn(t *testing.T) {
	key := seal.NewObjectKey()
	sealed := sealObject(t, key, make([]byte, 200<<10))
	mine := errors.New("disk")
	r, err := seal.OpenReader(key, io.MultiReader(bytes.NewReader(sealed[:100<<10]), iotest.ErrReader(mine)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, mine) {
		t.Errorf("reading: %v", err)
	}
	w, err := seal.SealWriter(key, failingWriter{mine})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 100<<10)); !errors.Is(err, mine) {
		t.Errorf("writing: %v", err)
	}
	if err := w.Close(); !errors.Is(err, mine) {
		t.Errorf("closing: %v", err)
	}
	if _, err := seal.SealWriter([]byte("short"), io.Discard); err == nil {
		t.Error("a short key was taken")
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
