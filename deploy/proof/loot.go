package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/canary"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// loot is what somebody has taken who got at everything that a mesh stores: whatever may be sealed, and the
// wrapped keys of the registry. It is made without asking what belongs to what: every run of bytes is tried
// with every key, and no check of integrity stands in the way.
type loot struct {
	sealed  [][]byte
	objects [][]byte
	spooled []*pb.SpoolEntry
	wrapped []wrappedKey
	// sought are subjects whose keys are looked for everywhere, also in raw files of the registry, whose free
	// pages and logs may hold what its tables no longer do.
	sought []wrappedKey
	carved [][]byte
}

// wrappedKey is a data key as the registry stores it.
type wrappedKey struct {
	workspace, subject string
	key                []byte
}

// takeLoot takes what a mesh that is stopped has stored in a folder, on its brokers and in its databases; only
// names one of ids where there are any, since trying all keys on all of a large mesh takes days.
func takeLoot(ctx context.Context, m *mesh.Mesh, folder string, ids ...string) (*loot, error) {
	l := &loot{}
	named := func(b []byte) bool {
		for _, id := range ids {
			if bytes.Contains(b, []byte(id)) {
				return true
			}
		}
		return len(ids) == 0
	}
	all, err := records(ctx, m)
	for _, r := range all {
		if named(r.Value) || named([]byte(r.Key)) {
			l.add(r.Value)
		}
	}
	for _, name := range []string{"conversation", "connect", "registry", "privacy"} {
		err = errors.Join(err, l.takeDatabase(ctx, m, name, ids, named))
	}
	return l, errors.Join(err, l.takeFiles(folder, named))
}

// takeDatabase takes every value of every table.
func (l *loot) takeDatabase(ctx context.Context, m *mesh.Mesh, name string, ids []string, named func([]byte) bool) error {
	db, err := m.Database(name)
	if err != nil {
		return err
	}
	defer db.Close()
	list := "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	if m.OneProcess() {
		list = "SELECT name FROM sqlite_master WHERE type = 'table'"
	}
	var tables []string
	if err := eachRow(ctx, db, list, func(row map[string]any) error {
		for _, value := range row {
			tables = append(tables, fmt.Sprint(value))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, table := range tables {
		if err := eachRow(ctx, db, `SELECT * FROM "`+table+`"`, func(row map[string]any) error {
			var whole []byte
			for _, value := range row {
				whole = append(whole, raw(value)...)
			}
			if name == "registry" && table == "subjects" {
				w := wrappedKey{textOf(row["workspace_id"]), textOf(row["id"]), raw(row["wrapped_key"])}
				if l.wrapped = append(l.wrapped, w); named([]byte(w.subject)) && (len(ids) > 0 || w.key == nil) {
					l.sought = append(l.sought, w)
				}
			}
			if !named(whole) {
				return nil
			}
			for _, value := range row {
				l.add(raw(value))
			}
			return nil
		}); err != nil {
			return fmt.Errorf("%s.%s: %w", name, table, err)
		}
	}
	return nil
}

func eachRow(ctx context.Context, db *sql.DB, query string, each func(map[string]any) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row := map[string]any{}
		for i, column := range columns {
			row[column] = values[i]
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func textOf(value any) string { return string(raw(value)) }

// raw is what a text or a blob holds; nil for anything else.
func raw(value any) []byte {
	switch v := value.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

// takeFiles takes objects, spools, and the registry's backups and raw files.
func (l *loot) takeFiles(folder string, named func([]byte) bool) error {
	return filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		base := filepath.Base(path)
		switch {
		case strings.Contains(path, "/bucket/") && named(content):
			l.objects = append(l.objects, content)
		case strings.HasSuffix(base, ".segment"):
			return l.takeSegment(content)
		case strings.HasSuffix(base, ".backup"):
			l.carved = append(l.carved, content)
			return l.takeBackup(content)
		case strings.HasPrefix(base, "registry.db"):
			l.carved = append(l.carved, content)
		}
		return nil
	})
}

// takeSegment takes the entries of a spool's segment, wherever they lie in it.
func (l *loot) takeSegment(content []byte) error {
	folder, err := os.MkdirTemp("", "loot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "000000000001.segment"), content, 0o600); err != nil {
		return err
	}
	s, err := spool.Open(spool.Config{Dir: folder, MaxBytes: 1 << 40})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		batch, err := s.Next(1000, 1<<30)
		if err != nil || len(batch.Records) == 0 {
			return err
		}
		for _, r := range batch.Records {
			e := &pb.SpoolEntry{}
			if err := proto.Unmarshal(r.Data, e); err != nil {
				return err
			}
			l.spooled = append(l.spooled, e)
		}
		if err := s.Done(batch); err != nil {
			return err
		}
	}
}

// takeBackup takes the keys out of one of the registry's own backups.
func (l *loot) takeBackup(content []byte) error {
	for line := range bytes.Lines(content) {
		var row struct {
			Table string
			Row   []any
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return err
		}
		if row.Table != "subjects" || len(row.Row) < 8 || row.Row[6] == nil {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(fmt.Sprint(row.Row[6]))
		if err != nil {
			return err
		}
		l.wrapped = append(l.wrapped, wrappedKey{fmt.Sprint(row.Row[2]), fmt.Sprint(row.Row[0]), key})
		if identity, err := base64.StdEncoding.DecodeString(fmt.Sprint(row.Row[7])); err == nil {
			l.add(identity)
		}
	}
	return nil
}

const (
	nonceSize = 12
	tagSize   = 16
)

// add takes a value and, where it can be read as protobuf, everything within it.
func (l *loot) add(b []byte) { l.nested(b, 8) }

func (l *loot) nested(b []byte, depth int) {
	if len(b) > nonceSize+tagSize {
		l.sealed = append(l.sealed, b)
	}
	if depth == 0 {
		return
	}
	var inner [][]byte
	for rest := b; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 || number > 100 {
			return
		}
		rest = rest[n:]
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(rest)
			inner = append(inner, value)
		}
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			return
		}
		rest = rest[n:]
	}
	for _, value := range inner {
		l.nested(value, depth-1)
	}
}

// opens tries every key on everything, and tells which of the needles stand in what comes out.
func (l *loot) opens(keys *keyring, needles ...string) map[string]bool {
	scanner := canary.New(needles...)
	found := map[string]bool{}
	var plain []byte
	look := func(least int) {
		if len(plain) < least {
			return
		}
		for _, hit := range scanner.Bytes("", plain) {
			found[hit.Needle] = true
		}
		plain = plain[:0]
	}
	for _, key := range keys.all {
		block, err := aes.NewCipher(key)
		if err != nil {
			continue // not the length of a key
		}
		for _, b := range l.sealed {
			plain = append(append(plain, decrypt(block, b[:nonceSize], b[nonceSize:len(b)-tagSize])...), 0)
			look(4 << 20)
		}
		for _, object := range l.objects {
			plain = append(append(plain, openObject(block, object)...), 0)
			look(4 << 20)
		}
	}
	for _, e := range l.spooled {
		for _, private := range keys.secrets {
			key, err := seal.OpenSpoolKey(private, e.GetSpoolKeyId(), e.GetEnc(), e.GetSealedKey())
			if err != nil {
				continue
			}
			if entry, err := seal.OpenSpoolEntry(key, e.GetCiphertext()); err == nil {
				plain = append(append(plain, entry...), 0)
			}
		}
		look(4 << 20)
	}
	look(1)
	return found
}

// decrypt is AES-GCM without its check.
func decrypt(block cipher.Block, nonce, ciphertext []byte) []byte {
	counter := append(append(make([]byte, 0, aes.BlockSize), nonce...), 0, 0, 0, 2)
	plain := make([]byte, len(ciphertext))
	cipher.NewCTR(block, counter).XORKeyStream(plain, ciphertext)
	return plain
}

// openObject opens the first chunk of an object, whose own key is wrapped in its head.
func openObject(block cipher.Block, object []byte) (plain []byte) {
	if len(object) < 4 {
		return nil
	}
	size := int(binary.BigEndian.Uint32(object))
	ref := &pb.AttachmentRef{}
	if size > len(object)-4 || proto.Unmarshal(object[4:4+size], ref) != nil || len(ref.GetKey().GetCiphertext()) != nonceSize+32+tagSize {
		return nil
	}
	wrapped := ref.GetKey().GetCiphertext()
	own, err := aes.NewCipher(decrypt(block, wrapped[:nonceSize], wrapped[nonceSize:nonceSize+32]))
	stream := object[4+size:]
	if err != nil || len(stream) < 7 {
		return nil
	}
	chunk := stream[7:min(len(stream), 64<<10)]
	for _, last := range []byte{0, 1} {
		nonce := append(append(make([]byte, 0, nonceSize), stream[:7]...), 0, 0, 0, 0, last)
		plain = append(plain, decrypt(own, nonce, chunk)...)
	}
	return plain
}
