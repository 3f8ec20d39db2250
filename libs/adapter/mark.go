package adapter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

// marks are files that say up to when each connection was asked: a connection's id and a time, nothing else.
type marks struct{ dir string }

const markSuffix = ".mark"

// read gives a mark; zero where there is none.
func (m marks) read(connection string) (time.Time, error) {
	name, err := m.name(connection)
	if err != nil {
		return time.Time{}, err
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	at, _ := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text))) // what write has not made is as none
	return at, nil
}

// write replaces a mark whole or not at all, also when the machine stops.
func (m marks) write(connection string, at time.Time) error {
	name, err := m.name(connection)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(at.UTC().Format(time.RFC3339Nano) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep deletes the marks of connections that are not known.
func (m marks) sweep(known map[string]bool) error {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	faults := []error{err}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), markSuffix); ok && !known[id] {
			faults = append(faults, os.Remove(filepath.Join(m.dir, e.Name())))
		}
	}
	return errors.Join(faults...)
}

// name of a mark's file: of an id that is one, and so leads nowhere else.
func (m marks) name(connection string) (string, error) {
	id, err := uuid.Parse(connection)
	if err != nil {
		return "", errors.New("adapter: a connection's id is no UUID")
	}
	return filepath.Join(m.dir, id.String()+markSuffix), nil
}
