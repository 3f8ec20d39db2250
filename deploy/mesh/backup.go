package mesh

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// backedUp is the service whose database Backup copies: what people wrote.
const backedUp = "conversation"

// Backup copies the conversation service's database as it is now. restore puts the copy in its place. The
// mesh is stopped at both.
func (m *Mesh) Backup() (restore func() error, err error) {
	if m.real != nil {
		from, to := m.real.database(backedUp), m.real.database(backedUp+"_backup")
		return func() error {
			return m.real.admin("DROP DATABASE "+from+" WITH (FORCE)", "ALTER DATABASE "+to+" RENAME TO "+from)
		}, m.real.admin("CREATE DATABASE " + to + " TEMPLATE " + from)
	}
	from, to := filepath.Join(m.cfg.Data, backedUp), filepath.Join(m.cfg.Data, "backup")
	return func() error { return copyDatabase(to, from) }, copyDatabase(from, to)
}

// copyDatabase replaces the SQLite files of a folder by those of another.
func copyDatabase(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		name := backedUp + ".db" + suffix
		if err := os.Remove(filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Dump writes what databases outside the mesh's folder hold into it, so that it can be searched as text.
func (m *Mesh) Dump(ctx context.Context) error {
	if m.real == nil {
		return nil
	}
	return m.real.dump(ctx, filepath.Join(m.cfg.Data, "dump"))
}
