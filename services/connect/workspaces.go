package connect

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
)

type workspaceRow struct {
	id, name  string
	operator  bool
	createdAt int64
}

// workspace is the object of the API.
type workspace struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	// APIKey is the first owner's, in the answer to its making alone.
	APIKey *apiKey `json:"api_key,omitempty"`
}

type listWorkspaces struct{ endpointx.Paging }

func (s *service) listWorkspaces(ctx context.Context, req listWorkspaces) (page endpointx.Page[workspace], err error) {
	at, id, err := position(req.Paging)
	if err != nil {
		return page, err
	}
	var items []workspace
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		items = nil
		return sqldb.Query(ctx, tx, `SELECT id, name, created_at FROM workspaces WHERE (created_at, id) > ($1, $2)
			ORDER BY created_at, id LIMIT $3`, []any{at, id, req.Size() + 1}, func(rows sqldb.Row) error {
			var w workspace
			var created int64
			err := rows.Scan(&w.ID, &w.Name, &created)
			w.CreatedAt = instant(created)
			items = append(items, w)
			return err
		})
	})
	return pageOf(items, req.Paging, func(w workspace) (time.Time, string) { return w.CreatedAt, w.ID }), err
}

type createWorkspace struct {
	Name  string `json:"name"`
	Owner string `json:"owner"`
}

func (r *createWorkspace) Validate() error {
	faults := faults{}
	faults.name("name", &r.Name)
	if r.Owner == "" {
		r.Owner = "owner"
	}
	faults.name("owner", &r.Owner)
	return faults.problem()
}

// createWorkspace makes a workspace with its first owner and an owner key. The key's text is in this
// answer and never again: repeated under the same Idempotency-Key, the answer has none.
func (s *service) createWorkspace(ctx context.Context, req createWorkspace) (workspace, error) {
	now := s.now().UnixMicro()
	var w workspace
	var id string
	keyID, text, hash := access.NewKey()
	err := s.db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
		var replayed bool
		id, replayed, err = s.idem.Do(ctx, tx, func() (string, error) {
			row := workspaceRow{id: newID(), name: req.Name, createdAt: now}
			if err := insertWorkspace(ctx, tx, row); err != nil {
				return "", err
			}
			return row.id, insertOwner(ctx, tx, row.id, req.Owner, bootKey{keyID, hash}, now)
		})
		if err != nil {
			return err
		}
		var created int64
		err = tx.QueryRowContext(ctx, `SELECT id, name, created_at FROM workspaces WHERE id = $1`, id).Scan(&w.ID, &w.Name, &created)
		w.CreatedAt = instant(created)
		if err != nil || replayed {
			return err
		}
		row, err := readKey(ctx, tx, id, keyID)
		if err != nil {
			return err
		}
		k := row.object()
		k.Key = text
		w.APIKey = &k
		return nil
	})
	if err != nil {
		return workspace{}, err
	}
	s.relay.flush(ctx)
	return w, nil
}

func insertWorkspace(ctx context.Context, tx *sqldb.Tx, w workspaceRow) error {
	operator := 0
	if w.operator {
		operator = 1
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO workspaces (id, name, operator, created_at) VALUES ($1, $2, $3, $4)`,
		w.id, w.name, operator, w.createdAt)
	return err
}

// faults collects what is wrong with a request's fields.
type faults map[string]string

func (f faults) add(field, what string) { f[field] = what }

func (f faults) problem() error {
	if len(f) == 0 {
		return nil
	}
	return endpointx.Invalid(f)
}

// name trims what a person calls something, and asks for 1 to 200 characters.
func (f faults) name(field string, value *string) {
	*value = strings.TrimSpace(*value)
	f.text(field, *value, 200)
	if *value == "" {
		f.add(field, "is required")
	}
}

// text refuses what no database or topic should be given: too much, control characters, broken UTF-8.
func (f faults) text(field, value string, most int) {
	if utf8.RuneCountInString(value) > most {
		f.add(field, fmt.Sprintf("must have %d characters at most", most))
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		f.add(field, "must have no control characters")
	}
}

// position is the sort key of a list's cursor.
func position(paging endpointx.Paging) (createdAt int64, id string, err error) {
	createdAt = -1
	err = paging.Behind(&createdAt, &id)
	return createdAt, id, err
}

// pageOf makes a page of one item more than its size.
func pageOf[T any](items []T, paging endpointx.Paging, key func(T) (time.Time, string)) endpointx.Page[T] {
	page := endpointx.Page[T]{Items: items}
	if size := paging.Size(); len(items) > size {
		page.Items = items[:size]
		at, id := key(items[size-1])
		page.NextCursor = paging.Next(at.UnixMicro(), id)
	}
	if page.Items == nil {
		page.Items = []T{}
	}
	return page
}

func instant(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// optional is nil for 0.
func optional(micros int64) *time.Time {
	if micros == 0 {
		return nil
	}
	t := instant(micros)
	return &t
}
