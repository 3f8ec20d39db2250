package sqldb

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestAConnectionIsNotWaitedForForEver(t *testing.T) {
	db, err := Open(t.Context(), Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "test.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.within = 10 * time.Millisecond
	if err := db.Tx(t.Context(), func(*Tx) error {
		err := db.Tx(t.Context(), func(*Tx) error { return nil })
		if !IsStoreFault(err) {
			t.Errorf("while another holds the only one: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Tx(ended, func(*Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("whose caller has gone: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
