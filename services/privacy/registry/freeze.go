package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Faults of an erasure's steps.
var (
	// ErrForeign: a subject is another workspace's.
	ErrForeign = errors.New("registry: subject of another workspace")
	// ErrNotFrozen: only frozen subjects are destroyed.
	ErrNotFrozen = errors.New("registry: subject is not frozen")
	// ErrLedgerPending: the erasure ledger has not acknowledged a subject yet.
	ErrLedgerPending = errors.New("registry: not in the erasure ledger yet")
)

// Freeze gives no key of the subjects out any more. In one transaction it detaches their identities, lists
// them as erased, and puts eviction and ledger entry into the outbox. It tells when the last of the
// subjects was frozen: one that is frozen already stays frozen since then. A subject that the registry does
// not know (it was restored from before) is taken down as destroyed.
func (r *Registry) Freeze(ctx context.Context, workspaceID, requestID string, subjectIDs []string) (time.Time, error) {
	entries := make([]*pb.Erasure, len(subjectIDs))
	now := r.now().UnixMicro()
	for i, id := range subjectIDs {
		entries[i] = &pb.Erasure{SubjectId: id, WorkspaceId: workspaceID, RequestId: requestID, FrozenAtUs: now}
	}
	var last int64
	for batch := range slices.Chunk(entries, freezeBatch) {
		at, err := r.freeze(ctx, batch, true)
		if err != nil {
			return time.Time{}, err
		}
		last = max(last, at)
	}
	r.wakeRelay()
	return time.UnixMicro(last).UTC(), nil
}

const freezeBatch = 256

func (r *Registry) freeze(ctx context.Context, entries []*pb.Erasure, tell bool) (last int64, err error) {
	byID := make(map[string]*pb.Erasure, len(entries))
	for _, e := range entries {
		byID[e.GetSubjectId()] = e
	}
	ids := slices.Sorted(maps.Keys(byID))
	err = again(ctx, func() error {
		return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
			last = 0
			newly, err := r.erasedIdentities(ctx, tx, ids)
			if err != nil {
				return err
			}
			if err := r.freezeRows(ctx, tx, byID, ids); err != nil {
				return err
			}
			if err := listErased(ctx, tx, newly, byID); err != nil {
				return err
			}
			rows, err := subjectsBy(ctx, tx, "id", ids)
			if err != nil {
				return err
			}
			for _, id := range ids {
				s := rows[id]
				if s.workspace != byID[id].GetWorkspaceId() {
					return ErrForeign
				}
				last = max(last, s.frozen)
				if tell && s.ledger == 0 {
					if err := r.tellFrozen(ctx, tx, byID[id], s.frozen); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	return last, err
}

// erasedHash is an identity that is about to be erased, as the newest list will hold it.
type erasedHash struct {
	subjectID, listID string
	hash              hash
}

// erasedIdentities opens the identities of those that are not frozen yet.
func (r *Registry) erasedIdentities(ctx context.Context, tx *sqldb.Tx, ids []string) ([]erasedHash, error) {
	e, err := r.readEpochs(ctx, tx)
	if err != nil {
		return nil, err
	}
	lists, err := r.readErasedLists(ctx, tx)
	if err != nil {
		return nil, err
	}
	if len(lists) == 0 {
		return nil, errors.New("registry: no list of erased identities")
	}
	rows, err := subjectsBy(ctx, tx, "id", ids)
	if err != nil {
		return nil, err
	}
	var hashes []erasedHash
	for id, s := range rows {
		if s.identity == nil {
			continue
		}
		key, err := s.key(e)
		if err != nil {
			return nil, err
		}
		who, err := openIdentity(key, s.id, s.workspace, s.kind, s.identity)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, erasedHash{id, lists[0].id, lists[0].keys.hash(who)})
	}
	slices.SortFunc(hashes, func(a, b erasedHash) int { return slices.Compare(a.hash[:], b.hash[:]) })
	return hashes, nil
}

func (r *Registry) freezeRows(ctx context.Context, tx *sqldb.Tx, entries map[string]*pb.Erasure, ids []string) error {
	// Unknown ones first, so that every entry has its row.
	unknown := make([][]any, len(ids))
	now := r.now().UnixMicro()
	for i, id := range ids {
		e := entries[id]
		unknown[i] = []any{id, uuid.NewString(), e.GetWorkspaceId(), "", int64(destroyed), now, now, e.GetFrozenAtUs(), now}
	}
	columns := []string{"id", "key_id", "workspace_id", "kind", "state", "made_us", "acquired_us", "frozen_us", "destroyed_us"}
	if err := sqldb.InsertRows(ctx, tx, "subjects", columns, unknown, "ON CONFLICT (id) DO NOTHING", nil); err != nil {
		return err
	}
	for _, id := range ids {
		e := entries[id]
		done, err := tx.ExecContext(ctx, `UPDATE subjects SET state = $1, frozen_us = $2, identity = NULL WHERE id = $3 AND workspace_id = $4 AND state IN (`+living+`)`,
			int64(frozen), e.GetFrozenAtUs(), id, e.GetWorkspaceId())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n > 0 {
			r.meters.frozen(ctx)
		}
		// Swept before it was erased: frozen since now.
		if _, err := tx.ExecContext(ctx, `UPDATE subjects SET frozen_us = $1 WHERE id = $2 AND workspace_id = $3 AND frozen_us = 0`,
			e.GetFrozenAtUs(), id, e.GetWorkspaceId()); err != nil {
			return err
		}
	}
	list, args := sqldb.In(1, ids)
	_, err := tx.ExecContext(ctx, `DELETE FROM lookups WHERE subject_id IN (SELECT id FROM subjects WHERE id IN (`+list+`) AND state NOT IN (`+living+`))`, args...)
	return err
}

func listErased(ctx context.Context, tx *sqldb.Tx, hashes []erasedHash, entries map[string]*pb.Erasure) error {
	rows := make([][]any, 0, len(hashes))
	for i, h := range hashes {
		if i > 0 && h.hash == hashes[i-1].hash {
			continue
		}
		rows = append(rows, []any{h.hash[:], h.listID, entries[h.subjectID].GetFrozenAtUs()})
	}
	return sqldb.InsertRows(ctx, tx, "erased", []string{"hash", "list_id", "erased_us"}, rows,
		`ON CONFLICT (hash) DO UPDATE SET erased_us = CASE WHEN excluded.erased_us > erased.erased_us THEN excluded.erased_us ELSE erased.erased_us END`, nil)
}

// tellFrozen puts eviction and ledger entry into the outbox; each once.
func (r *Registry) tellFrozen(ctx context.Context, tx *sqldb.Tx, e *pb.Erasure, frozenAt int64) error {
	command, err := proto.Marshal(&pb.PrivacyCommand{
		Id:   uuid.NewSHA1(uuid.NameSpaceOID, []byte("freeze/"+e.GetRequestId()+"/"+e.GetSubjectId())).String(),
		Kind: pb.PrivacyCommand_KIND_FREEZE, RequestId: e.GetRequestId(), WorkspaceId: e.GetWorkspaceId(),
		SubjectId: e.GetSubjectId(), IssuedAtUs: frozenAt,
	})
	if err != nil {
		return err
	}
	entry, err := proto.Marshal(&pb.Erasure{SubjectId: e.GetSubjectId(), WorkspaceId: e.GetWorkspaceId(), RequestId: e.GetRequestId(), FrozenAtUs: frozenAt})
	if err != nil {
		return err
	}
	return r.post(ctx, tx,
		letter{id: "freeze/" + e.GetSubjectId(), topic: topicCommands, key: e.GetSubjectId(), value: command},
		letter{id: "ledger/" + e.GetSubjectId(), topic: topicErasures, key: e.GetSubjectId(), value: entry, effect: effectLedger, ref: e.GetSubjectId()},
	)
}

// LedgerAcked tells whether the erasure ledger has all of the subjects, acknowledged by the broker.
func (r *Registry) LedgerAcked(ctx context.Context, subjectIDs []string) (acked bool, err error) {
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		acked = true
		for batch := range slices.Chunk(subjectIDs, freezeBatch) {
			rows, err := subjectsBy(ctx, tx, "id", batch)
			if err != nil {
				return err
			}
			for _, id := range batch {
				acked = acked && rows[id].ledger != 0
			}
		}
		return nil
	})
	return acked && err == nil, err
}

// Destroy destroys the keys of frozen subjects that stand in the ledger. From then on they exist in older
// backups alone, and until BackupsUnreadableFrom.
func (r *Registry) Destroy(ctx context.Context, subjectIDs []string) error {
	ids := slices.Compact(slices.Sorted(slices.Values(subjectIDs)))
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for batch := range slices.Chunk(ids, freezeBatch) {
			rows, err := subjectsBy(ctx, tx, "id", batch)
			if err != nil {
				return err
			}
			for _, id := range batch {
				switch s := rows[id]; {
				case s.state != frozen && s.state != destroyed:
					return fmt.Errorf("%w: %s", ErrNotFrozen, id)
				case s.ledger == 0:
					return fmt.Errorf("%w: %s", ErrLedgerPending, id)
				}
			}
			if err := destroyRows(ctx, tx, batch, r.now().UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

func destroyRows(ctx context.Context, tx *sqldb.Tx, ids []string, now int64) error {
	list, args := sqldb.In(4, ids)
	_, err := tx.ExecContext(ctx, `UPDATE subjects SET state = $1, wrapped_key = NULL, identity = NULL, epoch_id = NULL, destroyed_us = $2 WHERE state = $3 AND id IN (`+list+`)`,
		append([]any{int64(destroyed), now, int64(frozen)}, args...)...)
	return err
}

// ApplyLedger freezes and destroys whatever the erasure ledger names and this registry still has: a
// registry restored from before must not open it again. What a request that is still running erases is
// frozen only: the request destroys it when its turn comes. To be called before the service is ready.
func (r *Registry) ApplyLedger(ctx context.Context, entries []*pb.Erasure, running func(requestID string) bool) error {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b *pb.Erasure) int { return cmp.Compare(a.GetSubjectId(), b.GetSubjectId()) })
	for batch := range slices.Chunk(entries, freezeBatch) {
		if err := r.applyLedger(ctx, batch, running); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) applyLedger(ctx context.Context, batch []*pb.Erasure, running func(requestID string) bool) error {
	ids := make([]string, len(batch))
	for i, e := range batch {
		ids[i] = e.GetSubjectId()
	}
	var rows map[string]subject
	if err := r.db.View(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = subjectsBy(ctx, tx, "id", ids)
		return err
	}); err != nil {
		return err
	}
	var open []*pb.Erasure
	var over []string // nobody but the ledger will destroy these
	for _, e := range batch {
		s, ok := rows[e.GetSubjectId()]
		goesOn := running(e.GetRequestId())
		if ok && s.ledger != 0 && (s.state == destroyed || s.state == frozen && goesOn) {
			continue
		}
		if open = append(open, e); !goesOn {
			over = append(over, e.GetSubjectId())
		}
	}
	if len(open) == 0 {
		return nil
	}
	if _, err := r.freeze(ctx, open, false); err != nil {
		return err
	}
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		list, args := sqldb.In(2, ids)
		now := r.now().UnixMicro()
		if _, err := tx.ExecContext(ctx, `UPDATE subjects SET ledger_us = $1 WHERE ledger_us = 0 AND id IN (`+list+`)`, append([]any{now}, args...)...); err != nil {
			return err
		}
		return destroyRows(ctx, tx, over, now)
	})
}

// Restrict lets the subjects' keys be had for storage and legal alone. Caches follow within their TTL.
func (r *Registry) Restrict(ctx context.Context, workspaceID string, subjectIDs []string) error {
	return r.moveState(ctx, workspaceID, subjectIDs, active, restricted)
}

// Unrestrict ends Restrict.
func (r *Registry) Unrestrict(ctx context.Context, workspaceID string, subjectIDs []string) error {
	return r.moveState(ctx, workspaceID, subjectIDs, restricted, active)
}

func (r *Registry) moveState(ctx context.Context, workspaceID string, subjectIDs []string, from, to pb.SubjectState) error {
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for batch := range slices.Chunk(slices.Sorted(slices.Values(subjectIDs)), freezeBatch) {
			list, args := sqldb.In(4, batch)
			if _, err := tx.ExecContext(ctx, `UPDATE subjects SET state = $1 WHERE state = $2 AND workspace_id = $3 AND id IN (`+list+`)`,
				append([]any{int64(to), int64(from), workspaceID}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}
