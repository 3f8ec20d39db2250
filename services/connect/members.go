package connect

import (
	"context"
	"slices"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
)

type memberRow struct {
	id, workspaceID, name, role string
	createdAt                   int64
}

// member is the object of the API.
type member struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	CreatedAt time.Time `json:"created_at"`
}

func (r memberRow) object() member {
	return member{ID: r.id, Name: r.name, Role: r.role, CreatedAt: instant(r.createdAt)}
}

type listMembers struct{ endpointx.Paging }

func (s *service) listMembers(ctx context.Context, req listMembers) (page endpointx.Page[member], err error) {
	at, id, err := position(req.Paging)
	if err != nil {
		return page, err
	}
	var items []member
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		items = nil
		return sqldb.Query(ctx, tx, `SELECT id, name, role, created_at FROM members WHERE workspace_id = $1 AND (created_at, id) > ($2, $3)
			ORDER BY created_at, id LIMIT $4`, []any{workspaceOf(ctx), at, id, req.Size() + 1}, func(rows sqldb.Row) error {
			var m memberRow
			err := rows.Scan(&m.id, &m.name, &m.role, &m.createdAt)
			items = append(items, m.object())
			return err
		})
	})
	return pageOf(items, req.Paging, func(m member) (time.Time, string) { return m.CreatedAt, m.ID }), err
}

type createMember struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

var roles = []string{access.Owner, access.Admin, access.Agent}

func (r *createMember) Validate() error {
	faults := faults{}
	faults.name("name", &r.Name)
	if !slices.Contains(roles, r.Role) {
		faults.add("role", "must be owner, admin or agent")
	}
	return faults.problem()
}

func (s *service) createMember(ctx context.Context, req createMember) (m member, err error) {
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		id, _, err := s.idem.Do(ctx, tx, func() (string, error) {
			row := memberRow{id: newID(), workspaceID: workspaceOf(ctx), name: req.Name, role: req.Role, createdAt: s.now().UnixMicro()}
			return row.id, insertMember(ctx, tx, row)
		})
		if err != nil {
			return err
		}
		row := memberRow{id: id}
		err = tx.QueryRowContext(ctx, `SELECT name, role, created_at FROM members WHERE id = $1 AND workspace_id = $2`, id, workspaceOf(ctx)).
			Scan(&row.name, &row.role, &row.createdAt)
		m = row.object()
		return err
	})
	return m, err
}

func insertMember(ctx context.Context, tx *sqldb.Tx, m memberRow) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO members (id, workspace_id, name, role, created_at) VALUES ($1, $2, $3, $4, $5)`,
		m.id, m.workspaceID, m.name, m.role, m.createdAt)
	return err
}

// workspaceOf is the caller's workspace. Routes without a caller are not served.
func workspaceOf(ctx context.Context) string {
	c, _ := access.From(ctx)
	return c.WorkspaceID
}
