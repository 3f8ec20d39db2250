// Package keystore keeps the registry's secrets outside every database: here in a folder, each wrapped
// by a keeper (gocloud.dev/secrets: a local root key, or a cloud's key service).
package keystore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key:// keepers; a cloud's drivers are linked by the binary
)

var (
	// ErrNone: there is no such secret, or no more.
	ErrNone = errors.New("keystore: no such secret")
	// ErrExists: a secret of that name is there already.
	ErrExists = errors.New("keystore: secret exists")
)

// Folder keeps each secret in a file of its own (mode 0600, in a folder of mode 0700).
type Folder struct {
	dir    string
	keeper *secrets.Keeper
}

// OpenFolder opens the folder, making it if it is not there. It does not close the keeper.
func OpenFolder(dir string, keeper *secrets.Keeper) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	return &Folder{dir, keeper}, nil
}

var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,127}$`)

// Create keeps a new secret; once it has returned, a power cut does not take it back.
func (f *Folder) Create(ctx context.Context, name string, secret []byte) error {
	if !names.MatchString(name) {
		return fmt.Errorf("keystore: %q can't be a name", name)
	}
	// The name is wrapped along, so that files can't be exchanged for each other.
	sealed, err := f.keeper.Encrypt(ctx, append(append([]byte(name), 0), secret...))
	if err != nil {
		return fmt.Errorf("keystore: wrap %s: %w", name, err)
	}
	suffix := make([]byte, 8)
	rand.Read(suffix)
	temporary := filepath.Join(f.dir, ".new-"+hex.EncodeToString(suffix))
	defer func() { _ = os.Remove(temporary) }()
	if err := writeSynced(temporary, sealed); err != nil {
		return fmt.Errorf("keystore: %w", err)
	}
	// Link, unlike rename, never replaces.
	if err := os.Link(temporary, f.path(name)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return ErrExists
		}
		return fmt.Errorf("keystore: %w", err)
	}
	return f.sync()
}

// Get gives a secret, or ErrNone.
func (f *Folder) Get(ctx context.Context, name string) ([]byte, error) {
	if !names.MatchString(name) {
		return nil, ErrNone
	}
	sealed, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	plain, err := f.keeper.Decrypt(ctx, sealed)
	if err != nil {
		return nil, fmt.Errorf("keystore: unwrap %s: %w", name, err)
	}
	if len(plain) <= len(name) || string(plain[:len(name)]) != name || plain[len(name)] != 0 {
		return nil, fmt.Errorf("keystore: the file of %s holds another secret", name)
	}
	return plain[len(name)+1:], nil
}

// Destroy removes a secret for good; that it is not there is no error. The file is removed and the folder
// synced. It is not overwritten first: journalling file systems and flash would keep the old blocks all
// the same, and those hold the secret under the keeper's key only.
func (f *Folder) Destroy(_ context.Context, name string) error {
	if !names.MatchString(name) {
		return nil
	}
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keystore: %w", err)
	}
	return f.sync()
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *Folder) sync() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return fmt.Errorf("keystore: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeSynced(path string, b []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	return errors.Join(err, file.Sync(), file.Close())
}
