package registry

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tributary.dev/libs/sqldb"
)

// A backup is one file of JSON lines, the same for SQLite and PostgreSQL: a header, a line for each row,
// and an end with the number of rows and the SHA-256 of all before it. It holds no secret of the key store:
// with the secrets of its time it opens, after the next turn it opens nothing.
const (
	backupFormat = "tributary registry backup v1"
	backupSuffix = ".backup"
)

// table of the database, in an order in which every row finds what it refers to. The first column is its
// key; blobs are named.
type table struct {
	name    string
	columns []string
	blobs   []string
}

var tables = []table{
	{"epochs", []string{"id", "role", "begun_us"}, nil},
	{"subjects", []string{"id", "key_id", "workspace_id", "kind", "state", "epoch_id", "wrapped_key", "identity", "made_us", "acquired_us", "checked_us", "frozen_us", "ledger_us", "destroyed_us"}, []string{"wrapped_key", "identity"}},
	{"lookups", []string{"hash", "subject_id", "epoch_id"}, []string{"hash"}},
	{"erased_lists", []string{"id", "number", "begun_us"}, nil},
	{"erased", []string{"hash", "list_id", "erased_us"}, []string{"hash"}},
	{"spool_keys", []string{"id", "number", "public_key", "not_before_us", "published_us", "destroyed_us"}, []string{"public_key"}},
	{"doomed_secrets", []string{"name", "not_before_us", "after_backup"}, nil},
	{"outbox", []string{"id", "topic", "key", "value", "effect", "ref", "made_us"}, []string{"value"}},
}

type backupLine struct {
	Format string `json:"format,omitempty"`
	Table  string `json:"table,omitempty"`
	Row    []any  `json:"row,omitempty"`
	End    *struct {
		Rows   int64  `json:"rows"`
		SHA256 string `json:"sha256"`
	} `json:"end,omitempty"`
}

// Backup writes all rows to a new file in the backup folder, on disk before it returns; reads it back,
// and checks that every key in it opens with a secret that the key store keeps. Then it removes the backups
// before it but one. It gives the file's path.
func (r *Registry) Backup(ctx context.Context) (string, error) {
	if err := os.MkdirAll(r.cfg.BackupDir, 0o700); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(r.cfg.BackupDir, ".backup-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	written, err := r.export(ctx, file)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	if err := r.verify(ctx, file.Name(), written); err != nil {
		return "", fmt.Errorf("read back: %w", err)
	}
	path := filepath.Join(r.cfg.BackupDir, "registry-"+r.now().UTC().Format("20060102T150405.000000")+backupSuffix)
	if err := os.Rename(file.Name(), path); err != nil {
		return "", err
	}
	if err := syncDir(r.cfg.BackupDir); err != nil {
		return "", err
	}
	r.meters.backedUp(ctx)
	return path, r.pruneBackups()
}

// export writes one consistent state of the database.
func (r *Registry) export(ctx context.Context, w io.Writer) (rows int64, err error) {
	sum := sha256.New()
	buffered := bufio.NewWriterSize(w, 1<<20)
	lines := json.NewEncoder(io.MultiWriter(buffered, sum))
	if err := lines.Encode(backupLine{Format: backupFormat}); err != nil {
		return 0, err
	}
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		for _, t := range tables {
			n, err := t.export(ctx, tx, lines)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			rows += n
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	end := backupLine{End: &struct {
		Rows   int64  `json:"rows"`
		SHA256 string `json:"sha256"`
	}{rows, hex.EncodeToString(sum.Sum(nil))}}
	if err := json.NewEncoder(buffered).Encode(end); err != nil {
		return 0, err
	}
	return rows, buffered.Flush()
}

// export reads in pages, each a short statement.
func (t table) export(ctx context.Context, tx *sqldb.Tx, lines *json.Encoder) (rows int64, err error) {
	const page = 2000
	var after any
	for {
		where, args := "", []any{page}
		if after != nil {
			where, args = " WHERE "+t.columns[0]+" > $2", append(args, after)
		}
		n := 0
		query := "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name + where + " ORDER BY " + t.columns[0] + " LIMIT $1"
		err := sqldb.Query(ctx, tx, query, args, func(r sqldb.Row) error {
			n++
			row := make([]any, len(t.columns))
			into := make([]any, len(t.columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := r.Scan(into...); err != nil {
				return err
			}
			after = row[0]
			for i, v := range row {
				if b, ok := v.([]byte); ok {
					row[i] = base64.StdEncoding.EncodeToString(b)
				}
			}
			return lines.Encode(backupLine{Table: t.name, Row: row})
		})
		rows += int64(n)
		if err != nil || n < page {
			return rows, err
		}
	}
}

// verify reads a backup as Restore would, and opens every key in it.
func (r *Registry) verify(ctx context.Context, path string, written int64) error {
	subjects := tables[1]
	column := func(name string) int { return slices.Index(subjects.columns, name) }
	keys := map[string]*secretKeys{}
	var read int64
	err := readBackup(path, func(t table, row []any) error {
		read++
		if t.name != subjects.name || row[column("wrapped_key")] == nil {
			return nil
		}
		id, epochID := row[column("id")].(string), row[column("epoch_id")].(string)
		if keys[epochID] == nil {
			_, k, err := r.vault.get(ctx, epochSecret(epochID))
			if err != nil {
				return fmt.Errorf("epoch %s: %w", epochID, err)
			}
			keys[epochID] = k
		}
		if _, err := keys[epochID].unwrapKey(row[column("workspace_id")].(string), id, row[column("wrapped_key")].([]byte)); err != nil {
			return fmt.Errorf("subject %s: %w", id, err)
		}
		return nil
	})
	if err == nil && read != written {
		err = fmt.Errorf("%d rows of %d", read, written)
	}
	return err
}

// ErrNotEmpty: a backup is restored into a new database only.
var ErrNotEmpty = errors.New("registry: the database to restore into is not empty")

// Restore reads a backup into a new, migrated database. A file that is not whole restores nothing. The
// erasure ledger is to be applied (ApplyLedger) before the registry answers anybody.
func Restore(ctx context.Context, db *sqldb.DB, path string) error {
	if err := readBackup(path, func(table, []any) error { return nil }); err != nil {
		return err
	}
	return db.Tx(ctx, func(tx *sqldb.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM epochs) + (SELECT count(*) FROM subjects)`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return ErrNotEmpty
		}
		var batch [][]any
		var into table
		flush := func() error {
			if len(batch) == 0 {
				return nil
			}
			err := sqldb.InsertRows(ctx, tx, into.name, into.columns, batch, "", nil)
			batch = batch[:0]
			return err
		}
		err := readBackup(path, func(t table, row []any) error {
			if t.name != into.name || len(batch) == 512 {
				if err := flush(); err != nil {
					return err
				}
				into = t
			}
			batch = append(batch, row)
			return nil
		})
		return errors.Join(err, flush())
	})
}

// readBackup calls row for every row of a backup; it fails when the file is not whole.
func readBackup(path string, row func(table, []any) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	var rows int64
	reader := bufio.NewReaderSize(file, 1<<20)
	for first := true; ; first = false {
		raw, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return errors.New("backup is cut off")
		}
		if err != nil {
			return err
		}
		var line backupLine
		decoder := json.NewDecoder(strings.NewReader(string(raw)))
		decoder.UseNumber()
		if err := decoder.Decode(&line); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		switch {
		case first && line.Format != backupFormat:
			return errors.New("not a backup of a registry")
		case line.End != nil:
			return checkEnd(line, rows, hex.EncodeToString(sum.Sum(nil)), reader)
		case line.Table != "":
			t, values, err := line.decode()
			if err != nil {
				return err
			}
			rows++
			if err := row(t, values); err != nil {
				return err
			}
		}
		sum.Write(raw)
	}
}

func checkEnd(line backupLine, rows int64, sum string, rest *bufio.Reader) error {
	if line.End.Rows != rows || line.End.SHA256 != sum {
		return errors.New("backup was altered")
	}
	if _, err := rest.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("backup goes on behind its end")
	}
	return nil
}

func (line backupLine) decode() (table, []any, error) {
	i := slices.IndexFunc(tables, func(t table) bool { return t.name == line.Table })
	if i < 0 || len(line.Row) != len(tables[i].columns) {
		return table{}, nil, fmt.Errorf("backup: row of unknown shape of %q", line.Table)
	}
	t := tables[i]
	values := make([]any, len(line.Row))
	for c, v := range line.Row {
		var err error
		switch v := v.(type) {
		case json.Number:
			values[c], err = v.Int64()
		case string:
			values[c] = v
			if slices.Contains(t.blobs, t.columns[c]) {
				values[c], err = base64.StdEncoding.DecodeString(v)
			}
		}
		if err != nil {
			return table{}, nil, fmt.Errorf("backup: %s.%s: %w", t.name, t.columns[c], err)
		}
	}
	return t, values, nil
}

// pruneBackups leaves the newest two.
func (r *Registry) pruneBackups() error {
	backups, err := r.backups()
	if err != nil {
		return err
	}
	for len(backups) > 2 {
		if err := os.Remove(backups[0]); err != nil {
			return err
		}
		backups = backups[1:]
	}
	return nil
}

// backups there are, oldest first.
func (r *Registry) backups() ([]string, error) {
	return filepath.Glob(filepath.Join(r.cfg.BackupDir, "registry-*"+backupSuffix)) // sorted
}

// backUpWhenDue backs up when the newest backup is old enough.
func (r *Registry) backUpWhenDue(ctx context.Context) error {
	backups, err := r.backups()
	if err != nil {
		return err
	}
	if len(backups) > 0 {
		info, err := os.Stat(backups[len(backups)-1])
		if err == nil && r.now().Sub(info.ModTime()) < r.cfg.BackupEvery {
			return nil
		}
	}
	_, err = r.Backup(ctx)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
