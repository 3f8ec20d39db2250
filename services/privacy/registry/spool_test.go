package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "tributary.dev/proto/gen/tributary/v1"
)

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

// What a certificate says of spools and of the list of the erased follows from the settings.
func TestHorizonsFollowFromTheSettings(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		f.cfg.Upkeep, f.cfg.SpoolKeyEvery, f.cfg.SpoolKeyKept, f.cfg.ErasedListEvery = time.Hour, 6*time.Hour, 12*time.Hour, 9*time.Hour
		f.restart()
		keys, err := f.SpoolKeys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		entry := sealedEntry(t, keys[0])
		f.erase(f.person(1).GetSubjectId())
		var spool, listed time.Duration // how long each lasts
		for passed := time.Duration(0); passed < 4*24*time.Hour; passed += f.cfg.Upkeep {
			if err := errors.Join(f.keepSpoolKeys(ctx), f.keepErasedLists(ctx), f.destroyDue(ctx)); err != nil {
				t.Fatal(err)
			}
			f.relayAll()
			a, err := f.openSpool(ctx, []*pb.OpenSpoolRequest_Item{entry.item})
			if err != nil {
				t.Fatal(err)
			}
			if entry.opens(a[0].GetKey()) {
				spool = passed + f.cfg.Upkeep
			}
			if f.rows("erased") > 0 {
				listed = passed + f.cfg.Upkeep
			}
			f.clock.pass(f.cfg.Upkeep)
		}
		if spool < 18*time.Hour || spool > f.cfg.SpoolsReadable() || listed < 27*time.Hour || listed > f.cfg.ErasedListed() {
			t.Errorf("the spool opens %s, said is %s; the list lasts %s, said is %s", spool, f.cfg.SpoolsReadable(), listed, f.cfg.ErasedListed())
		}
	})
}
