package registry

import (
	"context"
	"testing"

	pb "tributary.dev/proto/gen/tributary/v1"
)

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
