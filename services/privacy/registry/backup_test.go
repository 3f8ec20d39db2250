package registry

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tributary.dev/libs/sqldb/sqltest"
)

func TestABackupThatIsNotWholeIsRefused(t *testing.T) {
	db := sqltest.SQLite(t, Migrations)
	f := newFixture(t, db)
	for i := range 10 {
		f.person(i)
	}
	path, err := f.Backup(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for name, content := range map[string][]byte{
		"empty":          nil,
		"cut":            whole[:len(whole)/2],
		"end cut":        whole[:len(whole)-10],
		"a line less":    bytes.Join(append(append([][]byte{}, lines[:3]...), lines[4:]...), nil),
		"a line twice":   bytes.Join(append(append([][]byte{}, lines[:4]...), lines[3:]...), nil),
		"altered":        bytes.Replace(whole, []byte(`"w1"`), []byte(`"w2"`), 1),
		"goes on":        append(append([]byte{}, whole...), whole...),
		"something else": []byte("{}\n"),
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		into := sqltest.SQLite(t, Migrations)
		if err := Restore(context.Background(), into, bad); err == nil {
			t.Errorf("%s: restored", name)
		}
		if err := Restore(context.Background(), into, path); err != nil {
			t.Errorf("%s: left something behind: %v", name, err)
		}
	}
	for range 3 {
		f.clock.pass(time.Hour)
		if _, err := f.Backup(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if backups, err := f.backups(); err != nil || len(backups) != 2 {
		t.Errorf("%d backups are kept, %v", len(backups), err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
