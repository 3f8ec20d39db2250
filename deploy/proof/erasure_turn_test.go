package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
)

// registry_dump: copies of all files are made, a person is erased, the epoch turns. Before the turn no copy but
// the registry's opens anything of the person; after it none does, with every key that today's key store and
// root key give, and the registry's copy opens nothing at all.
func provesOldDumpsUseless(t *testing.T) {
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	w.slack.Keep("file", []byte("what stands in the file: "+anna.words()))
	words, bens := anna.words(), ben.words()
	check(t, anna.says(ctx, words), ben.says(ctx, bens))
	_, contact, err := w.arrived(ctx, words)
	check(t, err)
	_, _, err = w.arrived(ctx, bens)
	check(t, err)
	old := filepath.Join(t.TempDir(), "old")
	check(t, w.Stop(ctx), os.CopyFS(old, os.DirFS(w.data)), w.Start(ctx))
	id, err := w.erase(ctx, contact)
	check(t, err, w.completed(ctx, id, 20*time.Second))

	copied, err := mesh.New(mesh.Config{Bin: binaries, Data: old})
	check(t, err)
	before, err := takeLoot(ctx, copied, old)
	check(t, err)
	hold := func(when string, taken *loot, want bool, from ...*loot) {
		t.Helper()
		keys, err := w.keyring(ctx, from...)
		check(t, err)
		opened := taken.opens(keys, append(slices.Clone(anna.needles), bens)...)
		bystander := opened[bens]
		delete(opened, bens)
		if (len(opened) > 0) != want {
			t.Errorf("%s: of the person there open %v", when, opened)
		}
		if wantBystander := len(from) > 0; bystander != wantBystander {
			t.Errorf("%s: the bystander opens: %v", when, bystander)
		}
	}
	stopped := func(do func(now *loot)) {
		t.Helper()
		check(t, w.Stop(ctx))
		now, err := takeLoot(ctx, w.Mesh, w.data)
		check(t, err)
		do(now)
		check(t, w.Start(ctx))
	}
	stopped(func(now *loot) {
		hold("before the turn, with the registry's copy", before, true, before)
		tables := &loot{wrapped: now.wrapped}
		hold("before the turn, with the registry's tables of today", before, false, tables)
	})
	check(t, w.turn(ctx))
	stopped(func(now *loot) {
		now.sought = before.wrapped // and in every corner of its files
		hold("after the turn", before, false, now, before)
		hold("after the turn, what is stored today", now, false, now, before)
		keys, err := w.keyring(ctx, before)
		check(t, err)
		if len(keys.data) != 0 {
			t.Errorf("the old dump gives %d keys with today's key store", len(keys.data))
		}
	})

	// A mesh that is started on the old registry beside today's key store opens nothing at all.
	check(t, w.Stop(ctx))
	mixed := filepath.Join(t.TempDir(), "mixed")
	check(t, os.CopyFS(mixed, os.DirFS(w.data)))
	for _, name := range []string{"registry.db", "registry.db-wal", "registry.db-shm"} {
		check(t, os.RemoveAll(filepath.Join(mixed, "privacy", name)))
		if content, err := os.ReadFile(filepath.Join(old, "privacy", name)); err == nil {
			check(t, os.WriteFile(filepath.Join(mixed, "privacy", name), content, 0o600))
		}
	}
	check(t, os.Chmod(filepath.Join(mixed, "api-key"), 0o600)) // a copy is the reader's
	m, err := mesh.New(mesh.Config{Bin: binaries, Data: mixed, Settings: swift})
	check(t, err)
	defer m.Kill()
	starting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := m.Start(starting); err == nil {
		t.Error("a mesh on an old registry says that it is ready")
	}
	api, err := m.Client()
	check(t, err)
	status, body, err := api.Raw(ctx, "GET", "/v1/messages/search?q=Ich", nil)
	if err == nil && status == 200 {
		t.Errorf("a mesh on an old registry answers %s", body)
	}
	check(t, w.Start(ctx))
	_, _, err = w.arrived(ctx, bens)
	check(t, err)
}

// turn: people write, old and new ones, while the epoch turns again and again and the mesh is killed at each
// step of a turn. Everybody opens afterwards, and is one person.
func provesTurnsLoseNobody(t *testing.T) {
	w := newSwiftWorld(t, map[string]string{
		"TRIBUTARY_REGISTRY_EPOCH_EVERY": "400ms", "TRIBUTARY_REGISTRY_BACKUP_EVERY": "400ms", "TRIBUTARY_REGISTRY_UPKEEP": "100ms"})
	ctx := t.Context()
	registry, err := w.Database("registry")
	check(t, err)
	defer registry.Close()
	said := &sayings{of: map[*guest][]string{}}
	crowd := make([]*guest, 250) // more than a turn wraps at once
	for i := range crowd {
		crowd[i] = w.phoneGuest()
	}
	check(t, atOnce(crowd, func(g *guest) error { return said.say(ctx, g) }))

	talking, quiet := context.WithCancel(ctx)
	var talkers sync.WaitGroup
	var faults [3]error
	for n := range faults {
		talkers.Go(func() {
			for i := n; talking.Err() == nil && faults[n] == nil; i += len(faults) {
				g := crowd[i%len(crowd)]
				if i%4 == 0 { // somebody who was never here
					g = w.phoneGuest()
				}
				faults[n] = said.say(ctx, g)
				_ = pause(talking, 20*time.Millisecond)
			}
		})
	}
	folder, _, err := w.KeyStore()
	check(t, err)
	steps := []string{"secret", "current", "wrap", "drop", "backup", "destroy"}
	for _, step := range steps {
		if err := w.killAtStep(ctx, registry, folder, step); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		check(t, w.Start(ctx))
	}
	quiet()
	talkers.Wait()
	check(t, faults[:]...)
	within(t, 40*time.Second, func() error { return said.shown(ctx, w) }) // some of it was spooled
	check(t, w.turn(ctx))
	check(t, said.shown(ctx, w))
	t.Logf("%d people, killed at %v", len(said.of), steps)
}

// sayings are what guests have said and had accepted.
type sayings struct {
	mu sync.Mutex
	of map[*guest][]string
}

func (s *sayings) say(ctx context.Context, g *guest) error {
	text := g.words()
	if err := g.says(ctx, text); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[g] = append(s.of[g], text)
	return nil
}

// shown wants all of it to be shown, each guest as one contact in one conversation.
func (s *sayings) shown(ctx context.Context, w *world) error {
	want := map[string]bool{}
	for _, texts := range s.of {
		slices.Sort(texts)
		want[strings.Join(texts, "\n")] = true
	}
	conversations, err := w.all(ctx, "/v1/conversations?limit=200")
	if err != nil {
		return err
	}
	contacts := map[string]bool{}
	for _, c := range conversations {
		messages, err := w.all(ctx, "/v1/conversations/"+c.Text("id")+"/messages?limit=200")
		if err != nil {
			return err
		}
		var texts []string
		for _, m := range messages {
			if m.Text("content") != "open" {
				return fmt.Errorf("a message is %s", m.Text("content"))
			}
			texts = append(texts, m.Text("text"))
		}
		slices.Sort(texts)
		if !want[strings.Join(texts, "\n")] {
			return fmt.Errorf("a conversation is none of those that were held: it shows %q of a guest who said %q", texts, s.by(texts))
		}
		contacts[c.Text("contact_id")] = true
	}
	if len(conversations) != len(s.of) || len(contacts) != len(s.of) {
		return fmt.Errorf("%d people are shown as %d conversations with %d contacts", len(s.of), len(conversations), len(contacts))
	}
	return nil
}

// by is what the guest has said who said one of the texts.
func (s *sayings) by(texts []string) []string {
	for _, said := range s.of {
		if len(texts) > 0 && slices.Contains(said, texts[0]) {
			return said
		}
	}
	return nil
}

// killAtStep kills the mesh while a turn of its epoch is at a step. The registry's database is held meanwhile,
// so that the turn can't go on; between the backup and the end of the old secret it is a matter of luck.
func (w *world) killAtStep(ctx context.Context, registry *sql.DB, keystore, step string) error {
	deadline := time.Now().Add(30 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		if step == "backup" {
			if err := w.killBehindBackup(ctx, keystore); err != nil {
				return err
			}
			at, err := turnStep(ctx, registry, keystore)
			if err != nil || at == step {
				return err
			}
			if err := w.Start(ctx); err != nil {
				return err
			}
			continue
		}
		tx, err := registry.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		at, err := turnStep(ctx, tx, keystore)
		if err == nil && at == step {
			w.Kill()
		}
		if err := errors.Join(err, tx.Rollback()); err != nil || at == step {
			return err
		}
		time.Sleep(time.Duration(n%7) * time.Millisecond) // so that the turn gets on
	}
	return errors.New("never met")
}

// killBehindBackup kills the mesh as soon as it has written another backup.
func (w *world) killBehindBackup(ctx context.Context, keystore string) error {
	backups := filepath.Join(filepath.Dir(keystore), "backups", "*.backup")
	newest := func() string {
		found, _ := filepath.Glob(backups)
		if len(found) == 0 {
			return ""
		}
		return found[len(found)-1]
	}
	for before := newest(); newest() == before; {
		if err := pause(ctx, 100*time.Microsecond); err != nil {
			return err
		}
	}
	w.Kill()
	return nil
}

// turnStep is the last step that the turn has done which is under way: see the registry's documentation. ""
// where none is.
func turnStep(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, keystore string) (string, error) {
	var epochs, all, old, dropped int
	var oldID, doomed sql.NullString
	if err := errors.Join(
		db.QueryRowContext(ctx, "SELECT COUNT(*), MAX(CASE WHEN role = 'old' THEN id END) FROM epochs").Scan(&epochs, &oldID),
		db.QueryRowContext(ctx, "SELECT COUNT(*) FROM subjects").Scan(&all),
		db.QueryRowContext(ctx, "SELECT COUNT(*) FROM subjects WHERE epoch_id IN (SELECT id FROM epochs WHERE role = 'old')").Scan(&old),
		db.QueryRowContext(ctx, "SELECT COUNT(*), MAX(name) FROM doomed_secrets WHERE after_backup = 1").Scan(&dropped, &doomed),
	); err != nil {
		return "", err
	}
	if dropped > 0 {
		_, err := os.Stat(filepath.Join(keystore, doomed.String))
		if errors.Is(err, fs.ErrNotExist) {
			return "destroy", nil
		}
		if err != nil {
			return "", err
		}
		backups, err := filepath.Glob(filepath.Join(filepath.Dir(keystore), "backups", "*.backup"))
		if err != nil || len(backups) == 0 {
			return "drop", err
		}
		named, err := os.ReadFile(backups[len(backups)-1])
		if err == nil && !strings.Contains(string(named), strings.TrimPrefix(doomed.String, "epoch-")+`","o`) && !strings.Contains(string(named), strings.TrimPrefix(doomed.String, "epoch-")+`","current"`) {
			return "backup", nil
		}
		return "drop", err
	}
	switch {
	case epochs > 1 && old < all && old > 0:
		return "wrap", nil
	case epochs > 1 && old == all:
		return "current", nil
	case epochs > 1:
		return "wrapped", nil
	}
	files, err := filepath.Glob(filepath.Join(keystore, "epoch-*"))
	if len(files) > 1 {
		return "secret", err
	}
	return "", err
}
