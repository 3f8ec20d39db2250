package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/bus"
)

// swift settings: an erasure takes seconds, and what goes by the day goes within them too.
var swift = map[string]string{
	"TRIBUTARY_CACHE_TTL": "1s", "TRIBUTARY_PRIVACY_CACHE_MARGIN": "500ms", "TRIBUTARY_PRIVACY_ASK_AGAIN": "500ms",
	"TRIBUTARY_REGISTRY_UPKEEP": "200ms",
}

// erase asks for a contact to be erased, until that is taken, and gives the request's id.
func (w *world) erase(ctx context.Context, contact string) (id string, err error) {
	err = mesh.Eventually(ctx, 20*time.Second, func() error {
		status, body, err := w.api.Raw(ctx, "POST", "/v1/privacy/requests", mesh.Object{"type": "erasure", "contact_id": contact})
		if err != nil {
			return err
		}
		if status != http.StatusCreated && status != http.StatusOK {
			return fmt.Errorf("the erasure is answered %d: %s", status, body)
		}
		o, err := object(body)
		id = o.Text("id")
		return err
	})
	return id, err
}

// erasure is a request as the API shows it.
func (w *world) erasure(ctx context.Context, id string) (mesh.Object, error) {
	return w.api.Call(ctx, "GET", "/v1/privacy/requests/"+id, nil, http.StatusOK)
}

// completed waits until a request is.
func (w *world) completed(ctx context.Context, id string, within time.Duration) error {
	return mesh.Eventually(ctx, within, func() error {
		r, err := w.erasure(ctx, id)
		if err == nil && r.Text("status") != "completed" {
			err = fmt.Errorf("the request is %s (%s) %s", r.Text("status"), r.Text("step"), r.Text("failed"))
		}
		return err
	})
}

// certificate of a request that is completed.
func (w *world) certificate(ctx context.Context, id string) ([]byte, error) {
	status, file, err := w.api.Raw(ctx, "GET", "/v1/privacy/requests/"+id+"/certificate", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the certificate is answered %d", status)
	}
	return file, err
}

// restarted stops the mesh and starts it with other settings; "" is the default.
func (w *world) restarted(ctx context.Context, settings map[string]string) error {
	if err := w.Stop(ctx); err != nil {
		return err
	}
	for name, value := range settings {
		w.Set(name, value)
	}
	return w.Start(ctx)
}

// records gives every record of every topic, topics without their prefix.
func records(ctx context.Context, m *mesh.Mesh) (all []bus.Record, err error) {
	topics, err := m.Topics(ctx)
	if err != nil {
		return nil, err
	}
	defer topics.Close()
	names, err := topics.Names(ctx, "")
	if err != nil {
		return nil, err
	}
	return all, topics.Read(ctx, names, func(r *kgo.Record) {
		record := bus.Record{Topic: strings.TrimPrefix(r.Topic, cmp.Or(m.Prefix(), "tributary.")), Partition: int(r.Partition), Offset: r.Offset, Key: string(r.Key), Value: r.Value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, bus.Header{Key: h.Key, Value: h.Value})
		}
		all = append(all, record)
	})
}

// produce puts messages onto topics, as anybody can who reaches the brokers.
func (w *world) produce(ctx context.Context, msgs ...bus.Message) error {
	topics, err := w.Topics(ctx)
	if err != nil {
		return err
	}
	defer topics.Close()
	out := make([]*kgo.Record, len(msgs))
	for i, m := range msgs {
		out[i] = &kgo.Record{Topic: m.Topic, Key: []byte(m.Key), Value: m.Value}
		for _, h := range m.Headers {
			out[i].Headers = append(out[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	return topics.Produce(ctx, out...)
}

// refuse makes the conversation service's database refuse new messages, of some conversations or of all, for
// their data, as a constraint would: their events become dead letters.
func (w *world) refuse(ctx context.Context, refused bool, conversations ...string) error {
	when := ""
	if len(conversations) > 0 {
		when = " WHEN (NEW.conversation_id IN ('" + strings.Join(conversations, "', '") + "'))"
	}
	statements := []string{"DROP TRIGGER refuse ON messages"}
	switch {
	case w.OneProcess() && refused:
		statements = []string{"CREATE TRIGGER refuse BEFORE INSERT ON messages" + when + " BEGIN SELECT RAISE(ABORT, 'refused'); END"}
	case w.OneProcess():
		statements = []string{"DROP TRIGGER refuse"}
	case refused:
		statements = []string{
			"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE check_violation; END $$ LANGUAGE plpgsql",
			"CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW" + when + " EXECUTE FUNCTION refuse()",
		}
	}
	return w.execute(ctx, "conversation", statements...)
}

// execute runs statements on one of the mesh's databases, past the mesh.
func (w *world) execute(ctx context.Context, database string, statements ...string) error {
	db, err := w.Database(database)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
	}
	return nil
}

// swap exchanges columns of two rows of the conversation service's database.
func (w *world) swap(ctx context.Context, table, key string, columns []string, a, b string) error {
	db, err := w.Database("conversation")
	if err != nil {
		return err
	}
	defer db.Close()
	list := strings.Join(columns, ", ")
	read := func(id string) ([]any, error) {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		return values, db.QueryRowContext(ctx, "SELECT "+list+" FROM "+table+" WHERE "+key+" = $1", id).Scan(into...)
	}
	ofA, err := read(a)
	if err != nil {
		return err
	}
	ofB, err := read(b)
	if err != nil {
		return err
	}
	set := make([]string, len(columns))
	for i, column := range columns {
		set[i] = fmt.Sprintf("%s = $%d", column, i+2)
	}
	for id, values := range map[string][]any{a: ofB, b: ofA} {
		if _, err := db.ExecContext(ctx, "UPDATE "+table+" SET "+strings.Join(set, ", ")+" WHERE "+key+" = $1", append([]any{id}, values...)...); err != nil {
			return err
		}
	}
	return nil
}

// column gives the one column of a query on one of the mesh's databases.
func (w *world) column(ctx context.Context, database, query string) (values []string, err error) {
	db, err := w.Database(database)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

// cutRegistry takes the key registry's epochs away from it, so that it can answer nobody, until mend is called.
func (w *world) cutRegistry(ctx context.Context) (mend func() error, err error) {
	return func() error { return w.execute(ctx, "registry", "ALTER TABLE epochs_away RENAME TO epochs") },
		w.execute(ctx, "registry", "ALTER TABLE epochs RENAME TO epochs_away")
}

// revived is the message that brings a dead letter back, as an operator would; false for any other record.
func revived(r bus.Record) (m bus.Message, ok bool) {
	for _, h := range r.Headers {
		switch {
		case h.Key == bus.HeaderDeadTopic:
			m.Topic, ok = string(h.Value), true
		case !strings.HasPrefix(h.Key, "dead_"):
			m.Headers = append(m.Headers, h)
		}
	}
	m.Key, m.Value = r.Key, r.Value
	return m, ok
}

// keyring is every key that today's key store and what was taken of registries give.
func (w *world) keyring(ctx context.Context, taken ...*loot) (*keyring, error) {
	folder, keeper, err := w.KeyStore()
	if err != nil {
		return nil, err
	}
	return openKeyring(ctx, folder, keeper, taken...)
}

// segments of the spools below a folder, by path, as they are now.
func segments(folder string) (map[string][]byte, error) {
	found := map[string][]byte{}
	return found, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".segment") {
			found[path], err = os.ReadFile(path)
		}
		return err
	})
}

// respool puts segments into their spools again, as new ones. The mesh is stopped.
func respool(segments map[string][]byte) error {
	for path, content := range segments {
		number := strings.TrimSuffix(filepath.Base(path), ".segment")
		again := filepath.Join(filepath.Dir(path), "9"+number[1:]+".segment")
		if err := os.WriteFile(again, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// turning settings have the epoch turn all the time; spool keys come and go with it.
var turning = map[string]string{
	"TRIBUTARY_REGISTRY_EPOCH_EVERY": "400ms", "TRIBUTARY_REGISTRY_BACKUP_EVERY": "400ms", "TRIBUTARY_REGISTRY_UPKEEP": "100ms",
	"TRIBUTARY_REGISTRY_SPOOL_KEY_EVERY": "400ms", "TRIBUTARY_REGISTRY_SPOOL_KEY_KEPT": "1s",
}

// still settings end that.
var still = map[string]string{
	"TRIBUTARY_REGISTRY_EPOCH_EVERY": "168h", "TRIBUTARY_REGISTRY_BACKUP_EVERY": "24h", "TRIBUTARY_REGISTRY_UPKEEP": "200ms",
	"TRIBUTARY_REGISTRY_SPOOL_KEY_EVERY": "24h", "TRIBUTARY_REGISTRY_SPOOL_KEY_KEPT": "192h",
}

// turn has the epoch turn, and the day's spool key change, until none of the secrets of before is left.
func (w *world) turn(ctx context.Context) error {
	folder, _, err := w.KeyStore()
	if err != nil {
		return err
	}
	before, err := w.column(ctx, "registry", "SELECT 'epoch-' || id FROM epochs UNION ALL SELECT 'spool-' || id FROM spool_keys")
	if err != nil {
		return err
	}
	if err := w.restarted(ctx, turning); err != nil {
		return err
	}
	if err := mesh.Eventually(ctx, 30*time.Second, func() error {
		for _, secret := range before {
			if _, err := os.Stat(filepath.Join(folder, secret)); !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(errors.New(secret+" is still there"), err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return w.restarted(ctx, still)
}

// atOnce does something for each, several at a time.
func atOnce[T any](all []T, do func(T) error) error {
	const workers = 16
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for n := range workers {
		wg.Go(func() {
			for i := n; i < len(all) && errs[n] == nil; i += workers {
				errs[n] = do(all[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
