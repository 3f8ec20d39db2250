package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

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

// A registry that is started again while a person is erased leaves it to the request, which first has the
// holders delete; one that is restored from before freezes again, and leaves the rest to it too.
func TestTheLedgerLeavesARunningErasureToItsRequest(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		s := f.person(1)
		backup, err := f.Backup(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Freeze(ctx, "w1", "running", []string{s.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		f.relayAll()
		entry := &pb.Erasure{}
		if err := proto.Unmarshal(f.bus.get("privacy.erasures", s.GetSubjectId()), entry); err != nil {
			t.Fatal(err)
		}
		apply := func(running bool) {
			t.Helper()
			f.restart()
			if err := f.ApplyLedger(ctx, []*pb.Erasure{entry}, func(id string) bool { return running && id == "running" }); err != nil {
				t.Fatal(err)
			}
		}
		apply(true)
		f.mustNotOpen(s, frozen)

		f.deps.DB = sqltest.SQLite(t, Migrations)
		if err := Restore(ctx, f.deps.DB, backup); err != nil {
			t.Fatal(err)
		}
		apply(true)
		f.mustNotOpen(s, frozen)
		if err := f.Destroy(ctx, []string{s.GetSubjectId()}); err != nil {
			t.Fatalf("the request can't go on: %v", err)
		}
		f.mustNotOpen(s, destroyed)

		f.deps.DB = sqltest.SQLite(t, Migrations)
		if err := Restore(ctx, f.deps.DB, backup); err != nil {
			t.Fatal(err)
		}
		apply(true)
		apply(false) // the request is lost, or was completed
		f.mustNotOpen(s, destroyed)
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
			if err := f.ApplyLedger(ctx, ledger, func(string) bool { return false }); err != nil {
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
