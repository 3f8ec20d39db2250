package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/google/uuid"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

type hash = [sha256.Size]byte

// act is one identity, and when it acted (0: not known).
type act struct {
	identity identity
	at       int64
}

// acquire finds or makes the subjects of the acts, in order. An identity that was erased after it acted
// is answered as erased.
func (r *Registry) acquire(ctx context.Context, acts []act) (answers []*pb.SubjectKey, err error) {
	err = again(ctx, func() error {
		write := errors.New("something is to be written")
		err := r.db.View(ctx, func(tx *sqldb.Tx) (err error) {
			answers, err = r.acquireIn(ctx, tx, acts, write)
			return err
		})
		if errors.Is(err, write) {
			err = r.db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
				answers, err = r.acquireIn(ctx, tx, acts, nil)
				return err
			})
		}
		return err
	})
	return answers, err
}

// acquireIn returns readOnly, when that is not nil, instead of writing.
func (r *Registry) acquireIn(ctx context.Context, tx *sqldb.Tx, acts []act, readOnly error) ([]*pb.SubjectKey, error) {
	e, err := r.readEpochs(ctx, tx)
	if err != nil {
		return nil, err
	}
	hashes := make([]hash, len(acts))
	identities := map[hash]identity{}
	for i, a := range acts {
		hashes[i] = e.lookup().keys.hash(a.identity)
		identities[hashes[i]] = a.identity
	}
	found, err := lookUp(ctx, tx, hashes)
	if err != nil {
		return nil, err
	}
	// After the look-up: a freeze that made it miss is on the list by now.
	erasedAt, err := r.erasedAt(ctx, tx, acts)
	if err != nil {
		return nil, err
	}
	erased := make([]bool, len(acts))
	var missing []hash
	var stale []string
	now := r.now().UnixMicro()
	seen := map[hash]bool{}
	for i, a := range acts {
		if at, ok := erasedAt[a.identity]; ok && a.at != 0 && a.at <= at {
			erased[i] = true
			continue
		}
		if h := hashes[i]; !seen[h] {
			seen[h] = true
			if s, ok := found[h]; !ok {
				missing = append(missing, h)
			} else if now-s.acquired >= r.cfg.noted().Microseconds() {
				stale = append(stale, s.id)
			}
		}
	}
	if len(missing)+len(stale) > 0 && readOnly != nil {
		return nil, readOnly
	}
	if err := touch(ctx, tx, stale, now); err != nil {
		return nil, err
	}
	if err := r.make(ctx, tx, e, missing, identities, found, now); err != nil {
		return nil, err
	}
	answers := make([]*pb.SubjectKey, len(acts))
	for i, a := range acts {
		if erased[i] {
			answers[i] = &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_ERASED, WorkspaceId: a.identity.workspace}
			continue
		}
		if answers[i], err = found[hashes[i]].answer(e, true); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// lookUp finds subjects by the hashes of their identities.
func lookUp(ctx context.Context, tx *sqldb.Tx, hashes []hash) (map[hash]subject, error) {
	found := make(map[hash]subject, len(hashes))
	values := make([][]byte, len(hashes))
	for i := range hashes {
		values[i] = hashes[i][:]
	}
	list, args := sqldb.In(1, values)
	err := sqldb.Query(ctx, tx, `SELECT `+subjectColumns+`, l.hash FROM lookups l JOIN subjects s ON s.id = l.subject_id WHERE l.hash IN (`+list+`)`, args,
		func(rows sqldb.Row) error {
			var s subject
			var h []byte
			if err := s.scan(rows, &h); err != nil {
				return err
			}
			found[hash(h)] = s
			return nil
		})
	return found, err
}

// touch notes that subjects were acquired, which keeps them from being swept. errMoved when one was
// frozen or swept meanwhile.
func touch(ctx context.Context, tx *sqldb.Tx, ids []string, now int64) error {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	list, args := sqldb.In(2, ids)
	done, err := tx.ExecContext(ctx, `UPDATE subjects SET acquired_us = $1 WHERE id IN (`+list+`) AND state IN (`+living+`)`, append([]any{now}, args...)...)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n != int64(len(ids)) {
		return errors.Join(errMoved, err)
	}
	return nil
}

// make makes the subjects of identities that have none, and puts them into found. Of several who make one
// at once, one does, and the others find it.
func (r *Registry) make(ctx context.Context, tx *sqldb.Tx, e epochs, missing []hash, identities map[hash]identity, found map[hash]subject, now int64) error {
	if len(missing) == 0 {
		return nil
	}
	slices.SortFunc(missing, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	made := make(map[hash]subject, len(missing))
	rows := make([][]any, len(missing))
	for i, h := range missing {
		id := identities[h]
		key := newSecret()
		s := subject{id: uuid.NewString(), keyID: uuid.NewString(), workspace: id.workspace, kind: id.kind, state: active, epochID: e.current.id, acquired: now}
		s.wrapped = e.current.keys.wrapKey(s.workspace, s.id, key)
		var err error
		if s.identity, err = sealIdentity(key, s.id, id); err != nil {
			return err
		}
		made[h] = s
		rows[i] = []any{s.id, s.keyID, s.workspace, s.kind, int64(s.state), s.epochID, s.wrapped, s.identity, now, now}
	}
	slices.SortFunc(rows, func(a, b []any) int { return cmp.Compare(a[0].(string), b[0].(string)) })
	columns := []string{"id", "key_id", "workspace_id", "kind", "state", "epoch_id", "wrapped_key", "identity", "made_us", "acquired_us"}
	if err := sqldb.InsertRows(ctx, tx, "subjects", columns, rows, "", nil); err != nil {
		return err
	}

	// Unique by the look-up's pepper; while a turn is under way each has its hash under the new one too.
	first := map[hash]hash{}
	for _, h := range missing {
		first[h] = h
	}
	won, err := insertLookups(ctx, tx, e.lookup().id, missing, func(h hash) string { return made[h].id })
	if err != nil {
		return err
	}
	if e.old != nil && len(won) > 0 {
		second := make([]hash, 0, len(won))
		for h := range won {
			s := e.current.keys.hash(identities[h])
			second, first[s] = append(second, s), h
		}
		slices.SortFunc(second, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
		both, err := insertLookups(ctx, tx, e.current.id, second, func(h hash) string { return made[first[h]].id })
		if err != nil {
			return err
		}
		if len(both) != len(second) {
			return errEpochMoved // somebody already goes by the new pepper alone
		}
	}
	var lost []hash
	var unused []string
	for _, h := range missing {
		if won[h] {
			found[h] = made[h]
		} else {
			lost, unused = append(lost, h), append(unused, made[h].id)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	list, args := sqldb.In(1, unused)
	if _, err := tx.ExecContext(ctx, `DELETE FROM subjects WHERE id IN (`+list+`)`, args...); err != nil {
		return err
	}
	others, err := lookUp(ctx, tx, lost)
	if err != nil {
		return err
	}
	for _, h := range lost {
		s, ok := others[h]
		if !ok {
			return errMoved
		}
		found[h] = s
	}
	return nil
}

// insertLookups tells which of the hashes were not there yet.
func insertLookups(ctx context.Context, tx *sqldb.Tx, epochID string, hashes []hash, subjectID func(hash) string) (map[hash]bool, error) {
	rows := make([][]any, len(hashes))
	for i, h := range hashes {
		rows[i] = []any{h[:], subjectID(h), epochID}
	}
	won := make(map[hash]bool, len(hashes))
	err := sqldb.InsertRows(ctx, tx, "lookups", []string{"hash", "subject_id", "epoch_id"}, rows, `ON CONFLICT (hash) DO NOTHING RETURNING hash`, func(rows sqldb.Row) error {
		var h []byte
		err := rows.Scan(&h)
		if err == nil {
			won[hash(h)] = true
		}
		return err
	})
	return won, err
}

// find finds the subjects of identities, in order.
func (r *Registry) find(ctx context.Context, ids []identity) (answers []*pb.SubjectKey, err error) {
	err = again(ctx, func() error {
		return r.db.View(ctx, func(tx *sqldb.Tx) error {
			e, err := r.readEpochs(ctx, tx)
			if err != nil {
				return err
			}
			hashes := make([]hash, len(ids))
			for i, id := range ids {
				hashes[i] = e.lookup().keys.hash(id)
			}
			found, err := lookUp(ctx, tx, hashes)
			if err != nil {
				return err
			}
			answers = make([]*pb.SubjectKey, len(ids))
			for i, id := range ids {
				s, ok := found[hashes[i]]
				if !ok {
					answers[i] = &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_NONE, WorkspaceId: id.workspace}
					continue
				}
				if answers[i], err = s.answer(e, true); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return answers, err
}

// unwrap gives data keys by id, in order; of another workspace than the one named, none.
func (r *Registry) unwrap(ctx context.Context, keyIDs []string, purpose pb.Purpose, workspace string) (answers []*pb.SubjectKey, err error) {
	err = again(ctx, func() error {
		return r.db.View(ctx, func(tx *sqldb.Tx) error {
			e, err := r.readEpochs(ctx, tx)
			if err != nil {
				return err
			}
			found, err := subjectsBy(ctx, tx, "key_id", keyIDs)
			if err != nil {
				return err
			}
			answers = make([]*pb.SubjectKey, len(keyIDs))
			for i, id := range keyIDs {
				s, ok := found[id]
				if !ok || workspace != "" && workspace != s.workspace {
					answers[i] = &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_NONE, KeyId: id}
					continue
				}
				if answers[i], err = s.answer(e, opens(s.state, purpose)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return answers, err
}

// opens tells whether a key may be had in a state for a purpose.
func opens(state pb.SubjectState, purpose pb.Purpose) bool {
	switch state {
	case active:
		return true
	case restricted:
		return purpose == pb.Purpose_PURPOSE_STORAGE || purpose == pb.Purpose_PURPOSE_LEGAL
	}
	return false
}
