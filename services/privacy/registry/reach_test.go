package registry

import (
	"context"
	"testing"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// scalar reads one value past the registry.
func (f *fixture) scalar(query string, into any, args ...any) error {
	return f.db.View(context.Background(), func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(context.Background(), query, args...).Scan(into)
	})
}

// write writes past the registry.
func (f *fixture) write(query string, args ...any) (n int64, err error) {
	err = f.db.Tx(context.Background(), func(tx *sqldb.Tx) error {
		done, err := tx.ExecContext(context.Background(), query, args...)
		if err != nil {
			return err
		}
		n, err = done.RowsAffected()
		return err
	})
	return n, err
}

// entry is a spool entry, and how to tell that a key opens it.
type entry struct {
	item *pb.OpenSpoolRequest_Item
	body []byte
}

func sealedEntry(t *testing.T, key *pb.SpoolKey) entry {
	t.Helper()
	enc, sealedKey, body, err := seal.SealSpool(key, []byte("entry"))
	if err != nil {
		t.Fatal(err)
	}
	return entry{&pb.OpenSpoolRequest_Item{SpoolKeyId: key.GetId(), Enc: enc, SealedKey: sealedKey}, body}
}

func (e entry) opens(key []byte) bool {
	plain, err := seal.OpenSpoolEntry(key, e.body)
	return err == nil && string(plain) == "entry"
}
