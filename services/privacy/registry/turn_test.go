package registry

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

var errKilled = errors.New("killed")

// turnKilledAt runs a turn that is killed at the n-th time it comes to step; false when it does not.
func (f *fixture) turnKilledAt(step string, n int) bool {
	f.t.Helper()
	f.killed = func(s string) error {
		if s == step {
			if n--; n == 0 {
				return errKilled
			}
		}
		return nil
	}
	err := f.Turn(context.Background())
	f.killed = func(string) error { return nil }
	if err != nil && !errors.Is(err, errKilled) {
		f.t.Fatal(err)
	}
	return err != nil
}

func (f *fixture) epochSecrets() (names []string) {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.keys, "epoch-*"))
	if err != nil {
		f.t.Fatal(err)
	}
	return files
}

// TestATurnKilledAtEveryStep: Acquires of two processes run all the while; every living key opens
// afterwards, a destroyed key stays destroyed, nobody has become two, and one secret is left.
func TestATurnKilledAtEveryStep(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const settled = 2*wrapBatch + 50 // several batches
		var people []*pb.SubjectKey
		for i := 0; i < settled; i += 50 {
			acts := make([]act, 50)
			for j := range acts {
				acts[j] = act{phone(i + j), 0}
			}
			people = append(people, f.acquired(acts...)...)
		}
		gone, half := people[0], people[1]
		f.erase(gone.GetSubjectId())
		if _, err := f.Freeze(context.Background(), "w1", "r1", []string{half.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		people = people[2:]

		for _, step := range []string{stepSecret, stepCurrent, stepWrap, stepWrap + "#2", stepDrop, stepBackup, stepDestroy} {
			name, n := strings.TrimSuffix(step, "#2"), 1
			if strings.HasSuffix(step, "#2") {
				n = 2
			}
			made, stop := f.acquiring(settled)
			if !f.turnKilledAt(name, n) {
				t.Fatalf("the turn does not come to %s", step)
			}
			f.check(step+", killed", people, gone, half)
			f.restart()
			f.check(step+", started again", people, gone, half)
			if err := f.ResumeTurn(context.Background()); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			stop()
			people = append(people, made()...)
			f.check(step+", resumed", people, gone, half)

			f.clock.pass(secretAdopted + time.Second)
			if err := f.destroyDue(context.Background()); err != nil {
				t.Fatal(err)
			}
			if s := f.epochSecrets(); len(s) != 1 {
				t.Fatalf("%s: %d epoch secrets are left", step, len(s))
			}
			if f.rows("epochs") != 1 || f.rows("doomed_secrets") != 0 {
				t.Fatalf("%s: the turn is not over", step)
			}
		}
		// Nobody became two: everybody is found as who they were.
		for i := 2; i < settled; i += 50 {
			if s := f.person(i); s.GetSubjectId() != people[i-2].GetSubjectId() {
				t.Fatalf("person %d is somebody else now", i)
			}
		}
		if n, want := f.rows("lookups"), f.living(); n != want {
			t.Errorf("%d look-ups for %d living", n, want)
		}
	})
}

func (f *fixture) living() (n int) {
	f.t.Helper()
	if err := f.scalar(`SELECT count(*) FROM subjects WHERE state IN (`+living+`)`, &n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// acquiring has two processes acquire, some of them new people (the same in both), until stop.
func (f *fixture) acquiring(settled int) (made func() []*pb.SubjectKey, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	first := map[string]*pb.SubjectKey{}
	base := 1_000_000 + f.rows("subjects")*1000
	for range 2 {
		r := f.open(f.deps.DB)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && i < 300; i++ {
				answers, err := r.acquire(context.Background(), []act{{phone(base + i), 0}, {phone(i%(settled-2) + 2), 0}})
				if err != nil {
					f.t.Error("acquire while the epoch turns:", err)
					return
				}
				mu.Lock()
				for _, a := range answers {
					if b := first[a.GetSubjectId()]; b != nil && !bytes.Equal(a.GetKey(), b.GetKey()) {
						f.t.Errorf("subject %s has two keys", a.GetSubjectId())
					}
					first[a.GetSubjectId()] = a
				}
				mu.Unlock()
			}
		})
	}
	return func() (all []*pb.SubjectKey) {
			for _, s := range first {
				all = append(all, s)
			}
			return all
		}, func() {
			cancel()
			wg.Wait()
		}
}

func (f *fixture) check(when string, people []*pb.SubjectKey, gone, half *pb.SubjectKey) {
	f.t.Helper()
	for start := 0; start < len(people); start += 500 {
		batch := people[start:min(start+500, len(people))]
		ids := make([]string, len(batch))
		for i, p := range batch {
			ids[i] = p.GetKeyId()
		}
		answers, err := f.unwrap(context.Background(), ids, pb.Purpose_PURPOSE_CONVERSATION, "")
		if err != nil {
			f.t.Fatalf("%s: %v", when, err)
		}
		for i, a := range answers {
			if a.GetState() != active || !bytes.Equal(a.GetKey(), batch[i].GetKey()) {
				f.t.Fatalf("%s: subject %s does not open: %v", when, batch[i].GetSubjectId(), a.GetState())
			}
		}
	}
	f.mustNotOpen(gone, destroyed)
	f.mustNotOpen(half, frozen)
}

// TestADumpFromBeforeTheTurnOpensNothing: its attacker also has the key store and root key of today.
func TestADumpFromBeforeTheTurnOpensNothing(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s, erased := f.person(1), f.person(2)
		dump, err := f.Backup(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(t.TempDir(), "dump")
		copyFile(t, dump, kept)
		f.erase(erased.GetSubjectId())
		before, err := f.BackupsUnreadableFrom(ctx)
		if err != nil || before.Sub(f.clock.now) < f.cfg.EpochEvery-time.Minute {
			t.Fatal("the horizon is before the next turn:", before, err)
		}
		f.clock.pass(f.cfg.EpochEvery)
		if err := f.turnWhenDue(ctx); err != nil {
			t.Fatal(err)
		}
		f.mustOpen(s)

		living := f.deps.DB
		thief := *f
		thief.deps.DB = sqltest.SQLite(t, Migrations)
		if err := Restore(ctx, thief.deps.DB, kept); err != nil {
			t.Fatal(err)
		}
		thief.restart()
		for _, victim := range []*pb.SubjectKey{s, erased} {
			for purpose := range pb.Purpose_name {
				a, err := thief.unwrap(ctx, []string{victim.GetKeyId()}, pb.Purpose(purpose), "")
				if err == nil && a[0].GetKey() != nil {
					t.Fatalf("the dump opens: %v", a[0])
				}
			}
		}
		if _, err := thief.find(ctx, []identity{phone(1)}); err == nil {
			t.Error("the dump tells who is in it")
		}

		// And the newest backup opens what lives, in a registry that was lost.
		backups, err := f.backups()
		if err != nil || len(backups) == 0 {
			t.Fatal(backups, err)
		}
		f.deps.DB = sqltest.SQLite(t, Migrations)
		if err := Restore(ctx, f.deps.DB, backups[len(backups)-1]); err != nil {
			t.Fatal(err)
		}
		f.restart()
		f.mustOpen(s)
		f.mustNotOpen(erased, destroyed)
		if again := f.person(1); again.GetSubjectId() != s.GetSubjectId() {
			t.Error("who was known is somebody else in the restored registry")
		}
		f.deps.DB = living
	})
}

func TestAnEpochWithoutABackupIsNotDestroyed(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s := f.person(1)
		dir := f.Registry.cfg.BackupDir
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		if err := f.Turn(ctx); err == nil {
			t.Fatal("turned without a backup")
		}
		if n := len(f.epochSecrets()); n != 2 {
			t.Fatalf("%d epoch secrets", n)
		}
		f.mustOpen(s)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := f.ResumeTurn(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(f.epochSecrets()); n != 1 {
			t.Fatalf("%d epoch secrets", n)
		}
		f.mustOpen(s)
	})
}

func TestABackupThatIsNotWholeIsRefused(t *testing.T) {
	db := sqltest.SQLite(t, Migrations)
	f := newFixture(t, db)
	for i := range 10 {
		f.person(i)
	}
	path, err := f.Backup(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for name, content := range map[string][]byte{
		"empty":          nil,
		"cut":            whole[:len(whole)/2],
		"end cut":        whole[:len(whole)-10],
		"a line less":    bytes.Join(append(append([][]byte{}, lines[:3]...), lines[4:]...), nil),
		"a line twice":   bytes.Join(append(append([][]byte{}, lines[:4]...), lines[3:]...), nil),
		"altered":        bytes.Replace(whole, []byte(`"w1"`), []byte(`"w2"`), 1),
		"goes on":        append(append([]byte{}, whole...), whole...),
		"something else": []byte("{}\n"),
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		into := sqltest.SQLite(t, Migrations)
		if err := Restore(context.Background(), into, bad); err == nil {
			t.Errorf("%s: restored", name)
		}
		if err := Restore(context.Background(), into, path); err != nil {
			t.Errorf("%s: left something behind: %v", name, err)
		}
	}
	for range 3 {
		f.clock.pass(time.Hour)
		if _, err := f.Backup(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if backups, err := f.backups(); err != nil || len(backups) != 2 {
		t.Errorf("%d backups are kept, %v", len(backups), err)
	}
}

func TestSpoolKeysComeAndGo(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		keys, err := f.SpoolKeys(ctx)
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		first := keys[0]
		entry := sealedEntry(t, first)
		opened := func(want bool) {
			t.Helper()
			a, err := f.openSpool(ctx, []*pb.OpenSpoolRequest_Item{entry.item, {SpoolKeyId: "../../x"}})
			if err != nil || a[0].GetLost() == want || want != entry.opens(a[0].GetKey()) || !a[1].GetLost() {
				t.Fatal(a, err)
			}
		}
		opened(true)
		f.relayAll()
		if f.bus.get("spoolkeys", first.GetId()) == nil {
			t.Fatal("not published")
		}

		f.clock.pass(f.cfg.SpoolKeyEvery)
		f.bus.fail = errors.New("broker away")
		for range 2 {
			if err := f.keepSpoolKeys(ctx); err != nil {
				t.Fatal(err)
			}
		}
		f.clock.pass(2 * f.cfg.SpoolKeyKept) // its successor was made, and not published
		if err := errors.Join(f.keepSpoolKeys(ctx), f.destroyDue(ctx)); err != nil {
			t.Fatal(err)
		}
		opened(true)
		f.bus.fail = nil
		f.relayAll()
		if n := len(f.bus.last["spoolkeys"]); n != 3 {
			t.Fatalf("%d keys on the topic", n)
		}
		f.clock.pass(f.cfg.SpoolKeyKept - time.Second)
		if err := errors.Join(f.keepSpoolKeys(ctx), f.destroyDue(ctx)); err != nil {
			t.Fatal(err)
		}
		opened(true)
		f.clock.pass(time.Second)
		if err := errors.Join(f.keepSpoolKeys(ctx), f.destroyDue(ctx)); err != nil {
			t.Fatal(err)
		}
		opened(false)
		f.relayAll()
		if f.bus.get("spoolkeys", first.GetId()) != nil {
			t.Error("its public half is still on the topic")
		}
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
