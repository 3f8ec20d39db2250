package registry

import (
	"context"
	"database/sql"
	"strconv"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	active     = pb.SubjectState_SUBJECT_STATE_ACTIVE
	restricted = pb.SubjectState_SUBJECT_STATE_RESTRICTED
	frozen     = pb.SubjectState_SUBJECT_STATE_FROZEN
	destroyed  = pb.SubjectState_SUBJECT_STATE_DESTROYED
)

// living are the states in which a subject has its identity, as SQL.
var living = strconv.Itoa(int(active)) + ", " + strconv.Itoa(int(restricted))

type identity struct{ workspace, kind, value string }

// subject is a row of subjects.
type subject struct {
	id, keyID, workspace, kind string
	state                      pb.SubjectState
	epochID                    string // "" once destroyed
	wrapped, identity          []byte
	acquired, frozen, ledger   int64
}

const subjectColumns = `s.id, s.key_id, s.workspace_id, s.kind, s.state, s.epoch_id, s.wrapped_key, s.identity, s.acquired_us, s.frozen_us, s.ledger_us`

func (s *subject) scan(rows sqldb.Row, more ...any) error {
	var epochID sql.NullString
	err := rows.Scan(append([]any{&s.id, &s.keyID, &s.workspace, &s.kind, &s.state, &epochID, &s.wrapped, &s.identity, &s.acquired, &s.frozen, &s.ledger}, more...)...)
	s.epochID = epochID.String
	return err
}

// subjectsBy reads subjects by id or key_id.
func subjectsBy(ctx context.Context, tx *sqldb.Tx, column string, values []string) (map[string]subject, error) {
	found := make(map[string]subject, len(values))
	list, args := sqldb.In(1, values)
	err := sqldb.Query(ctx, tx, `SELECT `+subjectColumns+` FROM subjects s WHERE s.`+column+` IN (`+list+`)`, args, func(rows sqldb.Row) error {
		var s subject
		if err := s.scan(rows); err != nil {
			return err
		}
		if column == "key_id" {
			found[s.keyID] = s
		} else {
			found[s.id] = s
		}
		return nil
	})
	return found, err
}

// key unwraps the subject's data key.
func (s subject) key(e epochs) ([]byte, error) {
	keys, err := e.byID(s.epochID)
	if err != nil {
		return nil, err
	}
	return keys.unwrapKey(s.workspace, s.id, s.wrapped)
}

// answer is the subject as callers see it; with its key where that is given.
func (s subject) answer(e epochs, withKey bool) (*pb.SubjectKey, error) {
	a := &pb.SubjectKey{State: s.state, SubjectId: s.id, KeyId: s.keyID, WorkspaceId: s.workspace}
	if !withKey {
		return a, nil
	}
	var err error
	a.Key, err = s.key(e)
	return a, err
}
