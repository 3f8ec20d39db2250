package erasure

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"time"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Migrations of the database of requests.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// step of a request; see the package documentation.
type step string

const (
	freezing   step = "freezing"
	closing    step = "closing"
	waiting    step = "waiting"
	erasing    step = "erasing"
	destroying step = "destroying"
	certifying step = "certifying"
	done       step = "done"
)

// Statuses of a request.
const (
	statusRunning   = "running"
	statusFailed    = "failed"
	statusCompleted = "completed"
)

// request as it is stored.
type request struct {
	ID, WorkspaceID, Type, ContactID, Status string
	Step                                     step
	RequestedBy                              string
	Received, Frozen, Empty, Destroyed       int64
	Completed                                int64
	Failed                                   string
}

// answer of a holder for one subject. Failed is its fault; empty for a good answer.
type answer struct {
	Holder, SubjectID    string
	Answered             int64
	Failed               string
	Found, Deleted, Kept map[string]int64
}

var errNoRequest = errors.New("no such request")

type store struct{ db *sqldb.DB }

const columns = `id, workspace_id, type, contact_id, status, step, requested_by, received_us, frozen_us, empty_us, destroyed_us, completed_us, failed`

func scanRequest(row interface{ Scan(...any) error }) (r request, err error) {
	err = row.Scan(&r.ID, &r.WorkspaceID, &r.Type, &r.ContactID, &r.Status, &r.Step, &r.RequestedBy,
		&r.Received, &r.Frozen, &r.Empty, &r.Destroyed, &r.Completed, &r.Failed)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoRequest
	}
	return r, err
}

// insert keeps a new request; where the contact has one, that one is given back.
func (s store) insert(ctx context.Context, tx *sqldb.Tx, r request) (request, error) {
	if _, err := tx.ExecContext(ctx, `INSERT INTO requests (id, workspace_id, type, contact_id, status, step, requested_by, received_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (workspace_id, type, contact_id) DO NOTHING`,
		r.ID, r.WorkspaceID, r.Type, r.ContactID, r.Status, string(r.Step), r.RequestedBy, r.Received); err != nil {
		return r, err
	}
	return scanRequest(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM requests WHERE workspace_id = $1 AND type = $2 AND contact_id = $3`,
		r.WorkspaceID, r.Type, r.ContactID))
}

func (s store) get(ctx context.Context, workspaceID, id string) (r request, err error) {
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		r, err = scanRequest(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM requests WHERE id = $1 AND workspace_id = $2`, id, workspaceID))
		return err
	})
	return r, err
}

// ofContact is the request of a contact, for those who ask again after the contact is gone.
func (s store) ofContact(ctx context.Context, workspaceID, typ, contactID string) (r request, err error) {
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		r, err = scanRequest(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM requests WHERE workspace_id = $1 AND type = $2 AND contact_id = $3`,
			workspaceID, typ, contactID))
		return err
	})
	return r, err
}

// list is newest first, from before (received, id) on.
func (s store) list(ctx context.Context, workspaceID string, received int64, id string, limit int) ([]request, error) {
	return s.query(ctx, `SELECT `+columns+` FROM requests WHERE workspace_id = $1 AND (received_us < $2 OR (received_us = $2 AND id < $3))
		ORDER BY received_us DESC, id DESC LIMIT $4`, workspaceID, received, id, limit)
}

// open are the requests that are not done, oldest first.
func (s store) open(ctx context.Context, limit int) ([]request, error) {
	return s.query(ctx, `SELECT `+columns+` FROM requests WHERE step <> 'done' ORDER BY received_us LIMIT $1`, limit)
}

func (s store) query(ctx context.Context, query string, args ...any) ([]request, error) {
	var found []request
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, query, args, func(rows sqldb.Row) error {
			r, err := scanRequest(rows)
			found = append(found, r)
			return err
		})
	})
	return found, err
}

// move takes a request from one step to the next, once: whoever comes second changes nothing. set are
// further columns.
func (s store) move(ctx context.Context, r request, to step, set map[string]any) error {
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE requests SET step = $1, status = $2, failed = '' WHERE id = $3 AND step = $4`,
			string(to), r.Status, r.ID, string(r.Step))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		for _, column := range []string{"frozen_us", "empty_us", "destroyed_us", "completed_us", "certificate"} {
			value, ok := set[column]
			if !ok {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE requests SET `+column+` = $1 WHERE id = $2`, value, r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// fail notes why a request does not go on; it is tried again.
func (s store) fail(ctx context.Context, id, why string) error {
	return s.exec(ctx, `UPDATE requests SET status = $1, failed = $2 WHERE id = $3 AND step <> 'done'`, statusFailed, why, id)
}

func (s store) exec(ctx context.Context, query string, args ...any) error {
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error { _, err := tx.ExecContext(ctx, query, args...); return err })
}

// addSubjects notes subjects of a request.
func (s store) addSubjects(ctx context.Context, id string, subjects []string) error {
	return s.addNames(ctx, "request_subjects", "subject_id", id, subjects)
}

// addHolders notes the holders that have to answer.
func (s store) addHolders(ctx context.Context, id string, holders []string) error {
	return s.addNames(ctx, "request_holders", "holder", id, holders)
}

func (s store) addNames(ctx context.Context, table, column, id string, names []string) error {
	rows := make([][]any, len(names))
	for i, name := range names {
		rows[i] = []any{id, name}
	}
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		return sqldb.InsertRows(ctx, tx, table, []string{"request_id", column}, rows, "ON CONFLICT DO NOTHING", nil)
	})
}

func (s store) subjects(ctx context.Context, id string) ([]string, error) {
	return s.names(ctx, `SELECT subject_id FROM request_subjects WHERE request_id = $1 ORDER BY subject_id`, id)
}

func (s store) holders(ctx context.Context, id string) ([]string, error) {
	return s.names(ctx, `SELECT holder FROM request_holders WHERE request_id = $1 ORDER BY holder`, id)
}

// names gives the one column of a query with one argument.
func (s store) names(ctx context.Context, query, arg string) ([]string, error) {
	var names []string
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, query, []any{arg}, func(rows sqldb.Row) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
	})
	return names, err
}

// answered keeps a holder's answer, with its fault. An answer without one is final; answers to requests that
// are not ours are nobody's.
func (s store) answered(ctx context.Context, tx *sqldb.Tx, ack *pb.PrivacyAck, fault string) error {
	counts := make([]any, 3)
	for i, m := range []map[string]int64{ack.Found, ack.Deleted, ack.Kept} {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		counts[i] = string(b)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO request_answers (request_id, holder, subject_id, answered_us, failed, found, deleted, kept)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM request_subjects WHERE request_id = $1 AND subject_id = $3)
		ON CONFLICT (request_id, holder, subject_id) DO UPDATE SET answered_us = excluded.answered_us, failed = excluded.failed,
			found = excluded.found, deleted = excluded.deleted, kept = excluded.kept
		WHERE request_answers.failed <> ''`,
		append([]any{ack.RequestId, ack.Holder, ack.SubjectId, ack.AtUs, fault}, counts...)...)
	return err
}

func (s store) answers(ctx context.Context, id string) ([]answer, error) {
	var found []answer
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return sqldb.Query(ctx, tx, `SELECT holder, subject_id, answered_us, failed, found, deleted, kept FROM request_answers
			WHERE request_id = $1 ORDER BY holder, subject_id`, []any{id}, func(rows sqldb.Row) error {
			var a answer
			var counts [3]string
			if err := rows.Scan(&a.Holder, &a.SubjectID, &a.Answered, &a.Failed, &counts[0], &counts[1], &counts[2]); err != nil {
				return err
			}
			for i, m := range []*map[string]int64{&a.Found, &a.Deleted, &a.Kept} {
				if err := json.Unmarshal([]byte(counts[i]), m); err != nil {
					return err
				}
			}
			found = append(found, a)
			return nil
		})
	})
	return found, err
}

func (s store) certificate(ctx context.Context, workspaceID, id string) (file []byte, err error) {
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT certificate FROM requests WHERE id = $1 AND workspace_id = $2`, id, workspaceID).Scan(&file)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoRequest
		}
		return err
	})
	return file, err
}

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }
