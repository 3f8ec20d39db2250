package connect

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
)

func boot(t *testing.T, db *sqldb.DB, dir string, newKey bool) error {
	t.Helper()
	return bootstrap(t.Context(), db, dir, newKey, time.Now, slog.New(slog.DiscardHandler))
}

// validKeys are the keys that the database would accept, by id.
func validKeys(t *testing.T, db *sqldb.DB) map[string]keyRow {
	t.Helper()
	keys := map[string]keyRow{}
	require.NoError(t, db.View(t.Context(), func(tx *sqldb.Tx) error {
		clear(keys)
		return sqldb.Query(t.Context(), tx, `SELECT `+keyColumns+` FROM keys WHERE revoked_at = 0`, nil, func(rows sqldb.Row) error {
			var r keyRow
			err := r.scan(rows.Scan)
			keys[r.id] = r
			return err
		})
	}))
	return keys
}

// requireOpens checks that the key in the file is one that the database accepts, an owner's.
func requireOpens(t *testing.T, db *sqldb.DB, dir string) {
	t.Helper()
	id, secret, ok := access.Parse(strings.TrimSpace(readFile(t, filepath.Join(dir, KeyFile))))
	require.True(t, ok)
	row, ok := validKeys(t, db)[id]
	require.True(t, ok, "the key in the file is valid")
	require.Equal(t, access.Hash(secret), row.hash)
	require.Equal(t, access.Owner, row.role)
}

func TestBootstrap(t *testing.T) {
	t.Run("gives a new installation an owner key that only its owner can read", func(t *testing.T) {
		sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
			dir := t.TempDir()
			require.NoError(t, boot(t, db, dir, false))
			requireOpens(t, db, dir)
			info, err := os.Stat(filepath.Join(dir, KeyFile))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())

			before := readFile(t, filepath.Join(dir, KeyFile))
			require.NoError(t, boot(t, db, dir, false))
			require.Equal(t, before, readFile(t, filepath.Join(dir, KeyFile)), "a second start changes nothing")
			require.Len(t, validKeys(t, db), 1)
		})
	})
	t.Run("a crash after the file was written leaves a key that becomes valid", func(t *testing.T) {
		sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
			dir := t.TempDir()
			killed, cancel := context.WithCancel(t.Context())
			crash := func() time.Time { cancel(); return time.Now() } // before the transaction's first statement
			require.Error(t, bootstrap(killed, db, dir, false, crash, slog.New(slog.DiscardHandler)))
			require.Empty(t, validKeys(t, db))
			written := readFile(t, filepath.Join(dir, KeyFile))

			require.NoError(t, boot(t, db, dir, false))
			require.Equal(t, written, readFile(t, filepath.Join(dir, KeyFile)))
			requireOpens(t, db, dir)
		})
	})
	t.Run("a lost file is made again only when asked", func(t *testing.T) {
		sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
			dir := t.TempDir()
			require.NoError(t, boot(t, db, dir, false))
			require.NoError(t, os.Remove(filepath.Join(dir, KeyFile)))
			require.NoError(t, boot(t, db, dir, false))
			require.NoFileExists(t, filepath.Join(dir, KeyFile))

			require.NoError(t, boot(t, db, dir, true))
			requireOpens(t, db, dir)
			require.Len(t, validKeys(t, db), 2)
			require.NoError(t, boot(t, db, dir, true))
			require.Len(t, validKeys(t, db), 2, "once, while the file is there")
		})
	})
	t.Run("a file with a key of elsewhere is told of and left alone", func(t *testing.T) {
		sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
			dir, elsewhere := t.TempDir(), t.TempDir()
			require.NoError(t, boot(t, db, dir, false))
			_, text, _ := access.NewKey()
			require.NoError(t, os.WriteFile(filepath.Join(elsewhere, KeyFile), []byte(text), 0o600))
			for where, warned := range map[string]bool{dir: false, elsewhere: true} {
				var out bytes.Buffer
				require.NoError(t, bootstrap(t.Context(), db, where, true, time.Now, slog.New(slog.NewTextHandler(&out, nil))))
				require.Equal(t, warned, strings.Contains(out.String(), "not valid here"))
				require.NotContains(t, out.String(), text)
			}
			require.Len(t, validKeys(t, db), 1)
		})
	})
	t.Run("a file that holds something else is refused", func(t *testing.T) {
		db, dir := sqltest.SQLite(t, migrations), t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, KeyFile), []byte("hello"), 0o600))
		require.ErrorContains(t, boot(t, db, dir, false), "holds no API key")
	})
	t.Run("of two that begin at once one does", func(t *testing.T) {
		sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
			dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
			var all sync.WaitGroup
			for _, dir := range dirs {
				all.Go(func() { require.NoError(t, boot(t, db, dir, false)) })
			}
			all.Wait()
			require.Len(t, validKeys(t, db), 1)
			written := 0
			for _, dir := range dirs {
				if _, err := os.Stat(filepath.Join(dir, KeyFile)); err == nil {
					written++
					requireOpens(t, db, dir)
				}
			}
			require.Equal(t, 1, written, "no file has a key that does not work")
		})
	})
}
