package registry

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gocloud.dev/secrets/localsecrets"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/privacy/registry/keystore"
)

// fixture is a registry on a database of the test's own, with a clock and a broker in the test's hands.
type fixture struct {
	*Registry
	t     testing.TB
	cfg   Config
	deps  Deps
	log   *bytes.Buffer
	bus   *fakeBus
	clock *testClock
	keys  string // the folder of the key store
}

type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fakeBus keeps the newest value of each key, as a compacted topic does.
type fakeBus struct {
	mu   sync.Mutex
	fail error
	last map[string]map[string][]byte
	n    int
}

func (b *fakeBus) Publish(_ context.Context, msgs ...bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	for _, m := range msgs {
		if b.last[m.Topic] == nil {
			b.last[m.Topic] = map[string][]byte{}
		}
		b.n++
		if b.last[m.Topic][m.Key] = m.Value; len(m.Value) == 0 {
			delete(b.last[m.Topic], m.Key)
		}
	}
	return nil
}

func (b *fakeBus) get(topic, key string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last[topic][key]
}

func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	sqltest.Each(t, Migrations, func(t *testing.T, db *sqldb.DB) { test(t, newFixture(t, db)) })
}

func newFixture(t testing.TB, db *sqldb.DB) *fixture {
	t.Helper()
	root, err := localsecrets.NewRandomKey()
	if err != nil {
		t.Fatal(err)
	}
	keeper := localsecrets.NewKeeper(root)
	t.Cleanup(func() { _ = keeper.Close() })
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := keystore.OpenFolder(dir, keeper)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		t: t, keys: dir, cfg: Defaults(), log: &bytes.Buffer{}, bus: &fakeBus{last: map[string]map[string][]byte{}},
		clock: &testClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
	}
	f.cfg.BackupDir = filepath.Join(t.TempDir(), "backups")
	f.deps = Deps{DB: db, Keys: keys, Bus: f.bus, Log: slog.New(slog.NewTextHandler(&lockedWriter{b: f.log}, nil)), Now: f.clock.Now}
	f.Registry = f.open(db)
	return f
}

type lockedWriter struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// open opens a registry as another process would: on the same key store, with nothing cached.
func (f *fixture) open(db *sqldb.DB) *Registry {
	f.t.Helper()
	deps := f.deps
	deps.DB = db
	r, err := Open(context.Background(), f.cfg, deps)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) restart() { f.Registry = f.open(f.deps.DB) }

func phone(n int) identity { return identity{"w1", "phone", fmt.Sprintf("+4179%07d", n)} }

func (f *fixture) acquired(acts ...act) []*pb.SubjectKey {
	f.t.Helper()
	answers, err := f.acquire(context.Background(), acts)
	if err != nil {
		f.t.Fatal(err)
	}
	return answers
}

func (f *fixture) person(n int) *pb.SubjectKey { f.t.Helper(); return f.acquired(act{phone(n), 0})[0] }

func (f *fixture) unwrapped(keyID string, purpose pb.Purpose) *pb.SubjectKey {
	f.t.Helper()
	answers, err := f.unwrap(context.Background(), []string{keyID}, purpose, "w1")
	if err != nil {
		f.t.Fatal(err)
	}
	return answers[0]
}

// opens tells that the subject's key is still what it was.
func (f *fixture) mustOpen(s *pb.SubjectKey) {
	f.t.Helper()
	got := f.unwrapped(s.GetKeyId(), pb.Purpose_PURPOSE_CONVERSATION)
	if got.GetState() != active || !bytes.Equal(got.GetKey(), s.GetKey()) || got.GetSubjectId() != s.GetSubjectId() {
		f.t.Fatalf("subject %s does not open: %v", s.GetSubjectId(), got.GetState())
	}
}

func (f *fixture) mustNotOpen(s *pb.SubjectKey, want pb.SubjectState) {
	f.t.Helper()
	for purpose := range pb.Purpose_name {
		got := f.unwrapped(s.GetKeyId(), pb.Purpose(purpose))
		if got.GetState() != want || got.GetKey() != nil {
			f.t.Fatalf("subject %s for %s: %v, %d bytes of key", s.GetSubjectId(), pb.Purpose(purpose), got.GetState(), len(got.GetKey()))
		}
	}
}

func (f *fixture) relayAll() {
	f.t.Helper()
	for {
		n, err := f.Relay(context.Background())
		if err != nil {
			f.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (f *fixture) erase(ids ...string) {
	f.t.Helper()
	if _, err := f.Freeze(context.Background(), "w1", "r1", ids); err != nil {
		f.t.Fatal(err)
	}
	f.relayAll()
	if err := f.Destroy(context.Background(), ids); err != nil {
		f.t.Fatal(err)
	}
}

func TestAnIdentityHasOneSubjectHoweverManyAskAtOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const callers, people = 16, 20
		var mu sync.Mutex
		subjects := map[string]map[string]bool{}
		other := f.open(f.deps.DB) // another process
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				r := f.Registry
				if c%2 == 1 {
					r = other
				}
				acts := make([]act, 0, 2*people)
				for i := range 2 * people {
					acts = append(acts, act{phone((i*7 + c) % people), 0}) // each twice, in another order
				}
				answers, err := r.acquire(context.Background(), acts)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for i, a := range answers {
					value := acts[i].identity.value
					if subjects[value] == nil {
						subjects[value] = map[string]bool{}
					}
					subjects[value][a.GetSubjectId()+string(a.GetKey())] = true
				}
			})
		}
		wg.Wait()
		for value, s := range subjects {
			if len(s) != 1 {
				t.Errorf("%s: %d subjects", value, len(s))
			}
		}
		if n := f.rows("subjects"); n != people {
			t.Errorf("%d rows for %d people", n, people)
		}
	})
}

func (f *fixture) rows(table string) (n int) {
	f.t.Helper()
	if err := f.scalar(`SELECT count(*) FROM `+table, &n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestWhoIsTheSamePerson(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ids := []identity{
			{"w1", "email", "Ann@Example.com"}, {"w1", "email", "ann@example.COM"},
			{"w2", "email", "ann@example.com"}, {"w1", "slack_user", "T1:Ann"}, {"w1", "slack_user", "T1:ann"},
		}
		var acts []act
		for _, id := range ids {
			acts = append(acts, act{id, 0})
		}
		a := f.acquired(acts...)
		if a[0].GetSubjectId() != a[1].GetSubjectId() {
			t.Error("a mail address in other letters is somebody else")
		}
		seen := map[string]bool{}
		for _, s := range a[1:] {
			seen[s.GetSubjectId()] = true
		}
		if len(seen) != 4 {
			t.Error("people of different workspaces, kinds or values are one")
		}
		found, err := f.find(context.Background(), append(ids, phone(1)))
		if err != nil || found[3].GetSubjectId() != a[3].GetSubjectId() || !bytes.Equal(found[3].GetKey(), a[3].GetKey()) {
			t.Fatal(found, err)
		}
		if found[5].GetState() != pb.SubjectState_SUBJECT_STATE_NONE || f.rows("subjects") != 4 {
			t.Error("finding made a subject")
		}
		foreign, err := f.unwrap(context.Background(), []string{a[2].GetKeyId(), "none"}, pb.Purpose_PURPOSE_CONVERSATION, "w1")
		if err != nil || foreign[0].GetState() != pb.SubjectState_SUBJECT_STATE_NONE || foreign[0].GetKey() != nil || foreign[1].GetState() != pb.SubjectState_SUBJECT_STATE_NONE {
			t.Fatal(foreign, err)
		}
	})
}

func TestNoIdentityAndNoKeyStandsInTheDatabaseOrTheLog(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		s := f.person(1)
		f.erase(f.person(2).GetSubjectId())
		path, err := f.Backup(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		err = readBackup(path, func(tb table, row []any) error {
			for _, v := range row {
				raw := fmt.Append(nil, v)
				if b, ok := v.([]byte); ok {
					raw = b
				}
				if bytes.Contains(raw, []byte("+4179")) || bytes.Contains(raw, s.GetKey()) {
					t.Errorf("in the clear in %s", tb.name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(f.log.Bytes(), []byte("+4179")) {
			t.Error("in the log")
		}
	})
}

func TestTheSigningKeyIsOneForGood(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		keys := make([]ed25519.PrivateKey, 4)
		var wg sync.WaitGroup
		for i := range keys {
			r := f.open(f.deps.DB)
			wg.Go(func() {
				var err error
				if keys[i], err = r.SigningKey(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, k := range keys {
			if !k.Equal(keys[0]) || len(k) != ed25519.PrivateKeySize {
				t.Fatal("two processes have two keys")
			}
		}
	})
}
