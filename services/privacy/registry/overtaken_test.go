package registry

import (
	"context"
	"errors"
	"testing"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// What a turn has read may be overtaken before it writes.

func TestAWrapOvertakenByAnErasureBringsNothingBack(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		gone, half, living := f.person(1), f.person(2), f.person(3)
		if !f.turnKilledAt(stepCurrent, 1) {
			t.Fatal("the turn was not begun")
		}
		e, batch := f.readBatch()
		f.erase(gone.GetSubjectId())
		if _, err := f.Freeze(ctx, "w1", "r1", []string{half.GetSubjectId()}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and by another process that wraps the same
			if err := f.wrapSubjects(ctx, e, batch); err != nil {
				t.Fatal(err)
			}
		}
		f.mustNotOpen(gone, destroyed)
		f.mustNotOpen(half, frozen)
		f.mustOpen(living)
		var left int
		if err := f.scalar(`SELECT count(*) FROM subjects WHERE state = 4 AND wrapped_key IS NOT NULL`, &left); err != nil || left != 0 {
			t.Fatal("a destroyed key came back", err)
		}
		if err := f.ResumeTurn(ctx); err != nil {
			t.Fatal(err)
		}
		for i, was := range []*pb.SubjectKey{gone, half} {
			if f.person(i+1).GetSubjectId() == was.GetSubjectId() {
				t.Error("an erased identity was attached again")
			}
		}
		if f.person(3).GetSubjectId() != living.GetSubjectId() {
			t.Error("a living one was detached")
		}
	})
}

func TestASubjectMadeUnderTheOldEpochHoldsItsEndUp(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		f.person(1)
		var before epochs
		if err := f.db.View(ctx, func(tx *sqldb.Tx) (err error) {
			before, err = f.readEpochs(ctx, tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !f.turnKilledAt(stepWrap, 1) { // all that there were are wrapped
			t.Fatal("the turn did not wrap")
		}
		// An Acquire that read the epochs before the turn began commits now.
		straggler := phone(2)
		h := before.lookup().keys.hash(straggler)
		found := map[hash]subject{}
		if err := f.db.Tx(ctx, func(tx *sqldb.Tx) error {
			return f.make(ctx, tx, before, []hash{h}, map[hash]identity{h: straggler}, found, f.now().UnixMicro())
		}); err != nil {
			t.Fatal(err)
		}
		if err := f.dropOldEpoch(ctx); !sqldb.IsForeignKey(err) {
			t.Fatalf("the old epoch ended over a subject: %v", err)
		}
		if s := f.person(2); s.GetSubjectId() != found[h].id {
			t.Fatal("who was just made is somebody else")
		}
		if err := f.ResumeTurn(ctx); err != nil {
			t.Fatal(err)
		}
		s := f.person(2)
		if s.GetSubjectId() != found[h].id {
			t.Fatal("who was made under the old epoch is somebody else after it")
		}
		f.mustOpen(s)

		// One that comes after the old epoch's end is refused, and begins anew.
		err := f.db.Tx(ctx, func(tx *sqldb.Tx) error {
			late := before.lookup().keys.hash(phone(3))
			return f.make(ctx, tx, before, []hash{late}, map[hash]identity{late: phone(3)}, map[hash]subject{}, 0)
		})
		if !sqldb.IsForeignKey(err) {
			t.Fatalf("a subject under an epoch that is over: %v", err)
		}
	})
}

func TestWhoWasMadeByTheNewPepperIsNotMadeAgainByTheOld(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		if !f.turnKilledAt(stepCurrent, 1) {
			t.Fatal("the turn was not begun")
		}
		e, _ := f.readBatch() // old and current
		if err := f.ResumeTurn(ctx); err != nil {
			t.Fatal(err)
		}
		s := f.person(1) // by the new pepper alone
		h := e.lookup().keys.hash(phone(1))
		err := f.db.Tx(ctx, func(tx *sqldb.Tx) error {
			return f.make(ctx, tx, e, []hash{h}, map[hash]identity{h: phone(1)}, map[hash]subject{}, 0)
		})
		if !errors.Is(err, errEpochMoved) {
			t.Fatal(err)
		}
		if f.person(1).GetSubjectId() != s.GetSubjectId() || f.rows("subjects") != 1 {
			t.Error("one person became two")
		}
	})
}

// readBatch reads what a turn under way would wrap next.
func (f *fixture) readBatch() (e epochs, batch []subject) {
	f.t.Helper()
	ctx := context.Background()
	err := f.db.View(ctx, func(tx *sqldb.Tx) (err error) {
		if e, err = f.readEpochs(ctx, tx); err != nil {
			return err
		}
		return sqldb.Query(ctx, tx, `SELECT `+subjectColumns+` FROM subjects s WHERE s.epoch_id = $1 ORDER BY s.id`, []any{e.old.id}, func(rows sqldb.Row) error {
			var s subject
			err := s.scan(rows)
			batch = append(batch, s)
			return err
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return e, batch
}
