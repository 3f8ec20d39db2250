package bus

import (
	"bytes"
	"encoding/gob"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSnapshot: a file that is damaged, or not a snapshot, is an error; never a panic nor a table that
// shows what was not kept.
func FuzzSnapshot(f *testing.F) {
	var whole bytes.Buffer
	if err := gob.NewEncoder(&whole).Encode(map[string][]byte{"a": []byte("1")}); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:whole.Len()/2])
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "apps")
		if err := writeFile(file, content); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the snapshot is not for its owner alone: %v %v", info, err)
		}
		table := &Table[string]{cfg: TableConfig[string]{
			Snapshot: file,
			Decode:   func(value []byte) (string, error) { return string(value), nil },
			Encode:   func(value string) ([]byte, error) { return []byte(value), nil },
		}}
		entries, err := table.newKeeper().read()
		if err != nil && entries != nil {
			t.Fatal("a damaged snapshot shows entries")
		}
		if bytes.Equal(content, whole.Bytes()) && entries["a"] != "1" {
			t.Fatalf("got %v", entries)
		}
	})
}
