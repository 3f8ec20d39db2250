package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"

	"tributary.dev/services/privacy/registry/keystore"
)

func newKeeper(t *testing.T) *secrets.Keeper {
	t.Helper()
	key, err := localsecrets.NewRandomKey()
	if err != nil {
		t.Fatal(err)
	}
	k := localsecrets.NewKeeper(key)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestASecretIsThereUntilItIsDestroyed(t *testing.T) {
	ctx, dir, keeper := context.Background(), filepath.Join(t.TempDir(), "keys"), newKeeper(t)
	f, err := keystore.OpenFolder(dir, keeper)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("a secret of some length")
	if err := f.Create(ctx, "epoch-1", secret); err != nil {
		t.Fatal(err)
	}
	if err := f.Create(ctx, "epoch-1", []byte("other")); !errors.Is(err, keystore.ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	again, err := keystore.OpenFolder(dir, keeper)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Get(ctx, "epoch-1"); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%q, %v", got, err)
	}
	for range 2 {
		if err := f.Destroy(ctx, "epoch-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Get(ctx, "epoch-1"); !errors.Is(err, keystore.ErrNone) {
			t.Fatalf("after destruction: %v", err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Fatal("left in the folder:", left, err)
	}
}

func TestFilesAreClosedWrappedAndNotExchangeable(t *testing.T) {
	ctx, dir, keeper := context.Background(), t.TempDir(), newKeeper(t)
	f, err := keystore.OpenFolder(dir, keeper)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("a secret of some length")
	if err := errors.Join(f.Create(ctx, "a", secret), f.Create(ctx, "b", []byte("other"))); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if d, err := os.Stat(dir); err != nil || d.Mode().Perm() != 0o700 {
		t.Fatal(d.Mode(), err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil || bytes.Contains(raw, secret) {
		t.Fatal("not wrapped", err)
	}
	if err := os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Get(ctx, "a"); err == nil {
		t.Fatalf("another's file was taken: %q", got)
	}
	for _, name := range []string{"", "../x", "A", "a/b", ".hidden"} {
		if err := f.Create(ctx, name, secret); err == nil {
			t.Errorf("%q was taken as a name", name)
		}
		if _, err := f.Get(ctx, name); !errors.Is(err, keystore.ErrNone) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOfTwoWhoMakeOneSecretOneDoes(t *testing.T) {
	f, err := keystore.OpenFolder(t.TempDir(), newKeeper(t))
	if err != nil {
		t.Fatal(err)
	}
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := f.Create(context.Background(), "x", []byte{byte(i)}); err == nil {
				made.Add(1)
			} else if !errors.Is(err, keystore.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d made it", made.Load())
	}
}
