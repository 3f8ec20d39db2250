package connect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"tributary.dev/libs/access"
	"tributary.dev/libs/app"
	"tributary.dev/libs/sqldb"
)

// KeyFile is the name, in the data folder, of the file with the first owner key.
const KeyFile = "api-key"

// bootstrap gives a new installation its first workspace, an owner and an owner key, and writes the key to
// the data folder. The file is whole and on disk before the key becomes valid, and a key that a crash left
// there without becoming valid becomes so at the next start: nobody is ever left without one. A file lost
// later is not made again unless newKey asks for a further key.
func bootstrap(ctx context.Context, db *sqldb.DB, dir string, newKey bool, now func() time.Time, log *slog.Logger) error {
	path := filepath.Join(dir, KeyFile)
	var installed bool
	err := db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM installation)`).Scan(&installed)
	})
	if err != nil {
		return err
	}
	_, err = os.Stat(path)
	there := err == nil
	if installed && !there && !newKey {
		return nil
	}
	k, created, err := keyInFile(path)
	if err != nil {
		return err
	}
	if installed && there {
		return warnOfStaleKey(ctx, db, k, path, log)
	}
	var made bool
	err = db.Tx(ctx, func(tx *sqldb.Tx) error {
		if installed {
			made = true
			return addOwnerKey(ctx, tx, k, now().UnixMicro())
		}
		made, err = install(ctx, tx, k, now().UnixMicro())
		return err
	})
	if err != nil {
		return err
	}
	if !made && created {
		// Another replica was first; the key in this file never became valid.
		return os.Remove(path)
	}
	if made {
		log.InfoContext(ctx, "owner key made", "key_id", k.id, "file", path)
	}
	return nil
}

// bootKey is a key as it stands in the file, in its parts.
type bootKey struct {
	id   string
	hash []byte
}

// warnOfStaleKey tells of a file whose key was revoked since, or is another installation's.
func warnOfStaleKey(ctx context.Context, db *sqldb.DB, k bootKey, path string, log *slog.Logger) error {
	var valid bool
	err := db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM keys WHERE id = $1 AND hash = $2 AND revoked_at = 0)`, k.id, k.hash).Scan(&valid)
	})
	if err == nil && !valid {
		log.WarnContext(ctx, "the file's key is not valid here", "key_id", k.id, "file", path)
	}
	return err
}

// keyInFile reads the key that a start before has left, or writes a new one.
func keyInFile(path string) (k bootKey, created bool, err error) {
	id, text, hash := access.NewKey()
	err = app.WriteOnce(path, []byte(text+"\n"))
	if err == nil {
		return bootKey{id, hash}, true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return bootKey{}, false, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return bootKey{}, false, err
	}
	id, secret, ok := access.Parse(strings.TrimSpace(string(content)))
	if !ok {
		return bootKey{}, false, fmt.Errorf("%s holds no API key: remove it to have a new one made", path)
	}
	return bootKey{id, access.Hash(secret)}, false, nil
}

// install makes the operator's workspace; made is false where another has.
func install(ctx context.Context, tx *sqldb.Tx, k bootKey, now int64) (made bool, err error) {
	w := workspaceRow{id: newID(), name: "default", operator: true, createdAt: now}
	if err := insertWorkspace(ctx, tx, w); err != nil {
		return false, err
	}
	claimed, err := tx.ExecContext(ctx, `INSERT INTO installation (id, workspace_id) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, w.id)
	if err != nil {
		return false, err
	}
	if n, err := claimed.RowsAffected(); err != nil {
		return false, err
	} else if n == 0 {
		_, err := tx.ExecContext(ctx, `DELETE FROM workspaces WHERE id = $1`, w.id)
		return false, err
	}
	return true, insertOwner(ctx, tx, w.id, "owner", k, now)
}

// addOwnerKey gives the operator's workspace a further owner key, of the owner that has been longest.
func addOwnerKey(ctx context.Context, tx *sqldb.Tx, k bootKey, now int64) error {
	row := keyRow{id: k.id, hash: k.hash, name: "made at a start", role: access.Owner, createdAt: now}
	err := tx.QueryRowContext(ctx, `SELECT m.workspace_id, m.id FROM members m JOIN installation i ON i.workspace_id = m.workspace_id
		WHERE m.role = $1 ORDER BY m.created_at, m.id LIMIT 1`, access.Owner).Scan(&row.workspaceID, &row.memberID)
	if err != nil {
		return err
	}
	return insertKey(ctx, tx, row)
}

// insertOwner makes a workspace's first member and that member's key.
func insertOwner(ctx context.Context, tx *sqldb.Tx, workspaceID, name string, k bootKey, now int64) error {
	member := memberRow{id: newID(), workspaceID: workspaceID, name: name, role: access.Owner, createdAt: now}
	if err := insertMember(ctx, tx, member); err != nil {
		return err
	}
	return insertKey(ctx, tx, keyRow{
		id: k.id, workspaceID: workspaceID, memberID: member.id, name: "first", role: access.Owner, hash: k.hash, createdAt: now,
	})
}

// newID is a UUIDv7: its order in an index is that of making.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
