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
		if err := thief.Usable(ctx); !errors.Is(err, ErrUnusable) {
			t.Error("a dump from before the turn says that it can answer:", err)
		}
		if err := f.Usable(ctx); err != nil {
			t.Error(err)
		}
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
