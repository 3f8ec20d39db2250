package registry

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gocloud.dev/secrets/localsecrets"
	"google.golang.org/protobuf/proto"

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

func TestRestrictedKeysAreForStorageAndLegalAlone(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s := f.person(1)
		if err := errors.Join(f.Restrict(ctx, "w2", []string{s.GetSubjectId()})); err != nil {
			t.Fatal(err)
		}
		f.mustOpen(s) // another workspace can't
		if err := f.Restrict(ctx, "w1", []string{s.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		for purpose := range pb.Purpose_name {
			p := pb.Purpose(purpose)
			got := f.unwrapped(s.GetKeyId(), p)
			may := p == pb.Purpose_PURPOSE_STORAGE || p == pb.Purpose_PURPOSE_LEGAL
			if got.GetState() != restricted || may != bytes.Equal(got.GetKey(), s.GetKey()) || !may && got.GetKey() != nil {
				t.Errorf("%s: %v", p, got)
			}
		}
		if a := f.person(1); a.GetState() != restricted || !bytes.Equal(a.GetKey(), s.GetKey()) {
			t.Error("no key for storing")
		}
		if err := f.Unrestrict(ctx, "w1", []string{s.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		f.mustOpen(s)
	})
}

func TestAPersonIsErasedStepByStep(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s, bystander := f.person(1), f.person(2)
		id := s.GetSubjectId()

		if err := f.Destroy(ctx, []string{id}); !errors.Is(err, ErrNotFrozen) {
			t.Fatalf("destroyed without a freeze: %v", err)
		}
		if _, err := f.Freeze(ctx, "w2", "r1", []string{id}); !errors.Is(err, ErrForeign) {
			t.Fatalf("frozen by another workspace: %v", err)
		}
		f.mustOpen(s)

		f.bus.fail = errors.New("broker away")
		at, err := f.Freeze(ctx, "w1", "r1", []string{id})
		if err != nil || !at.Equal(f.clock.now) {
			t.Fatal(at, err)
		}
		f.mustNotOpen(s, frozen)
		f.mustOpen(bystander)
		if again := f.person(1); again.GetSubjectId() == id {
			t.Fatal("who writes again is not new")
		}
		if _, err := f.Relay(ctx); err == nil {
			t.Fatal("the broker is away")
		}
		if acked, err := f.LedgerAcked(ctx, []string{id}); err != nil || acked {
			t.Fatal(acked, err)
		}
		if err := f.Destroy(ctx, []string{id}); !errors.Is(err, ErrLedgerPending) {
			t.Fatalf("destroyed before the ledger had it: %v", err)
		}

		f.clock.pass(time.Hour)
		if joined, err := f.Freeze(ctx, "w1", "r2", []string{id}); err != nil || !joined.Equal(at) {
			t.Fatalf("a second request did not join: %v, %v", joined, err)
		}
		f.bus.fail = nil
		f.relayAll()
		if acked, err := f.LedgerAcked(ctx, []string{id}); err != nil || !acked {
			t.Fatal(acked, err)
		}
		if acked, err := f.LedgerAcked(ctx, []string{id, bystander.GetSubjectId()}); err != nil || acked {
			t.Fatal(acked, err)
		}
		var entry pb.Erasure
		var command pb.PrivacyCommand
		if err := errors.Join(proto.Unmarshal(f.bus.get("privacy.erasures", id), &entry), proto.Unmarshal(f.bus.get("privacy.commands", id), &command)); err != nil {
			t.Fatal(err)
		}
		if entry.GetSubjectId() != id || entry.GetRequestId() != "r1" || entry.GetFrozenAtUs() != at.UnixMicro() || entry.GetWorkspaceId() != "w1" {
			t.Error("ledger:", &entry)
		}
		if command.GetKind() != pb.PrivacyCommand_KIND_FREEZE || command.GetSubjectId() != id || command.GetRequestId() != "r1" {
			t.Error("eviction:", &command)
		}
		for range 2 {
			if err := f.Destroy(ctx, []string{id, id}); err != nil {
				t.Fatal(err)
			}
			f.mustNotOpen(s, destroyed)
			if _, err := f.Freeze(ctx, "w1", "r1", []string{id}); err != nil {
				t.Fatal(err)
			}
			f.mustNotOpen(s, destroyed)
		}
		var left int
		if err := f.scalar(`SELECT count(*) FROM subjects WHERE state = 4 AND (wrapped_key IS NOT NULL OR identity IS NOT NULL)`, &left); err != nil || left != 0 {
			t.Error("key material is left", left, err)
		}
		f.mustOpen(bystander)
	})
}

func TestTwoFreezesAtOnceJoin(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var ids []string
		for i := range 20 {
			ids = append(ids, f.person(i).GetSubjectId())
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if _, err := f.Freeze(context.Background(), "w1", fmt.Sprint("r", i), ids); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		f.relayAll()
		requests := map[string]bool{}
		for _, id := range ids {
			var entry pb.Erasure
			if err := proto.Unmarshal(f.bus.get("privacy.erasures", id), &entry); err != nil {
				t.Fatal(err)
			}
			requests[entry.GetRequestId()] = true
		}
		if f.rows("erased") != 20 || f.bus.n != 40+1 { // and the spool key
			t.Errorf("%d listed, %d messages", f.rows("erased"), f.bus.n)
		}
	})
}

func TestAnActFromBeforeTheErasureMakesNobody(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		s := f.person(1)
		before := f.clock.now.UnixMicro()
		f.clock.pass(time.Minute)
		f.erase(s.GetSubjectId())
		f.clock.pass(time.Minute)
		check := func(when string) {
			t.Helper()
			if a := f.acquired(act{phone(1), before}, act{phone(2), before}); a[0].GetState() != pb.SubjectState_SUBJECT_STATE_ERASED || a[0].GetKey() != nil || a[1].GetState() != active {
				t.Fatalf("%s: %v, %v", when, a[0].GetState(), a[1].GetState())
			}
		}
		check("with nobody new")
		if n := f.rows("lookups"); n != 1 {
			t.Errorf("%d have an identity", n)
		}
		again := f.acquired(act{phone(1), f.clock.now.UnixMicro()})[0]
		if again.GetState() != active || again.GetSubjectId() == s.GetSubjectId() {
			t.Fatal("a new message makes nobody new")
		}
		check("with somebody new")
		if a := f.acquired(act{phone(1), before}, act{phone(1), f.clock.now.UnixMicro()}); a[0].GetState() != pb.SubjectState_SUBJECT_STATE_ERASED || a[1].GetSubjectId() != again.GetSubjectId() {
			t.Fatal("both in one call")
		}
		// Two lists later it is still known; when its own is destroyed, no more.
		for week := 1; week <= 3; week++ {
			if week < 3 {
				check(fmt.Sprint("week ", week))
			}
			f.clock.pass(f.cfg.ErasedListEvery)
			if err := f.keepErasedLists(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := f.destroyDue(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if f.rows("erased") != 0 || f.rows("erased_lists") != erasedLists || f.rows("doomed_secrets") != 0 {
			t.Errorf("%d listed on %d lists", f.rows("erased"), f.rows("erased_lists"))
		}
	})
}

func TestTheLedgerIsAppliedToARestoredRegistry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s, bystander := f.person(1), f.person(2)
		backup, err := f.Backup(ctx)
		if err != nil {
			t.Fatal(err)
		}
		later := f.person(3) // not in the backup
		f.erase(s.GetSubjectId(), later.GetSubjectId())

		f.deps.DB = sqltest.SQLite(t, Migrations)
		if err := Restore(ctx, f.deps.DB, backup); err != nil {
			t.Fatal(err)
		}
		if err := Restore(ctx, f.deps.DB, backup); !errors.Is(err, ErrNotEmpty) {
			t.Fatalf("restored twice: %v", err)
		}
		f.restart()
		f.mustOpen(s) // why the ledger is there
		var ledger []*pb.Erasure
		for _, raw := range f.bus.last["privacy.erasures"] {
			e := &pb.Erasure{}
			if err := proto.Unmarshal(raw, e); err != nil {
				t.Fatal(err)
			}
			ledger = append(ledger, e)
		}
		for range 2 {
			if err := f.ApplyLedger(ctx, ledger); err != nil {
				t.Fatal(err)
			}
			f.mustNotOpen(s, destroyed)
			f.mustOpen(bystander)
		}
		if a := f.acquired(act{phone(1), ledger[0].GetFrozenAtUs()})[0]; a.GetState() != pb.SubjectState_SUBJECT_STATE_ERASED {
			t.Error("the erased list was not written again:", a.GetState())
		}
		if acked, err := f.LedgerAcked(ctx, []string{s.GetSubjectId(), later.GetSubjectId()}); err != nil || !acked {
			t.Fatal(acked, err)
		}
	})
}

func TestUnusedSubjectsAreSweptUnlessAcquiredMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		unused, stored, busy := f.person(1), f.person(2), f.person(3)
		holders := &fakeHolders{stores: map[string]bool{stored.GetSubjectId(): true}}
		f.deps.Holders = holders
		f.restart()
		f.clock.pass(f.cfg.SweepAfter)
		if n, err := f.Sweep(ctx); err != nil || n != 0 {
			t.Fatal("too early:", n, err)
		}
		f.clock.pass(f.cfg.noted())
		raced := f.acquired(act{phone(3), 0})[0] // notes it
		if raced.GetSubjectId() != busy.GetSubjectId() {
			t.Fatal("somebody else")
		}
		meanwhile := f.person(4)
		if _, err := f.write(`UPDATE subjects SET acquired_us = 0 WHERE id = $1`, meanwhile.GetSubjectId()); err != nil {
			t.Fatal(err)
		}
		holders.asked = func() { f.acquired(act{phone(4), 0}) } // between the question and the statement
		if n, err := f.Sweep(ctx); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		f.mustNotOpen(unused, destroyed)
		for _, s := range []*pb.SubjectKey{stored, busy, meanwhile} {
			f.mustOpen(s)
		}
		if again := f.person(1); again.GetSubjectId() == unused.GetSubjectId() {
			t.Error("who writes again is not new")
		}
		holders.asked = func() { t.Error("asked again at once") }
		if n, err := f.Sweep(ctx); err != nil || n != 0 {
			t.Fatal(n, err)
		}
		if _, err := f.Freeze(ctx, "w1", "r1", []string{unused.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		f.relayAll()
		if acked, err := f.LedgerAcked(ctx, []string{unused.GetSubjectId()}); err != nil || !acked {
			t.Fatal("one swept before it was erased:", acked, err)
		}
	})
}

type fakeHolders struct {
	stores map[string]bool
	asked  func()
}

func (h *fakeHolders) StoresNothing(_ context.Context, ids []string) (nothing []string, err error) {
	if h.asked != nil {
		h.asked()
	}
	for _, id := range ids {
		if !h.stores[id] {
			nothing = append(nothing, id)
		}
	}
	return nothing, nil
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
