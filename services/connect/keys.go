package connect

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

type keyRow struct {
	id, workspaceID, memberID, name, role, scopes string
	hash                                          []byte
	expiresAt, revokedAt, createdAt               int64
}

const keyColumns = `id, workspace_id, member_id, name, role, scopes, hash, expires_at, revoked_at, created_at`

func (r *keyRow) scan(scan func(...any) error) error {
	return scan(&r.id, &r.workspaceID, &r.memberID, &r.name, &r.role, &r.scopes, &r.hash, &r.expiresAt, &r.revokedAt, &r.createdAt)
}

// apiKey is the object of the API.
type apiKey struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	MemberID  string     `json:"member_id"`
	Role      string     `json:"role"`
	Scopes    []string   `json:"scopes"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	// Key is the text to call with, in the answer to its making alone.
	Key string `json:"key,omitempty"`
}

func (r keyRow) object() apiKey {
	return apiKey{
		ID: r.id, Name: r.name, MemberID: r.memberID, Role: r.role, Scopes: append([]string{}, strings.Fields(r.scopes)...),
		ExpiresAt: optional(r.expiresAt), RevokedAt: optional(r.revokedAt), CreatedAt: instant(r.createdAt),
	}
}

type listKeys struct{ endpointx.Paging }

func (s *service) listKeys(ctx context.Context, req listKeys) (page endpointx.Page[apiKey], err error) {
	at, id, err := position(req.Paging)
	if err != nil {
		return page, err
	}
	var items []apiKey
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		items = nil
		return sqldb.Query(ctx, tx, `SELECT `+keyColumns+` FROM keys WHERE workspace_id = $1 AND (created_at, id) > ($2, $3)
			ORDER BY created_at, id LIMIT $4`, []any{workspaceOf(ctx), at, id, req.Size() + 1}, func(rows sqldb.Row) error {
			var r keyRow
			err := r.scan(rows.Scan)
			items = append(items, r.object())
			return err
		})
	})
	return pageOf(items, req.Paging, func(k apiKey) (time.Time, string) { return k.CreatedAt, k.ID }), err
}

type createKey struct {
	Name      string   `json:"name"`
	Role      string   `json:"role"`
	Scopes    []string `json:"scopes"`
	MemberID  string   `json:"member_id"`
	ExpiresAt string   `json:"expires_at"`

	expires int64
}

func (r *createKey) Validate() error {
	faults := faults{}
	faults.name("name", &r.Name)
	if !slices.Contains(roles, r.Role) {
		faults.add("role", "must be owner, admin or agent")
	} else {
		implied := access.EffectiveScopes(r.Role, nil, true)
		for i, scope := range r.Scopes {
			if !slices.Contains(implied, scope) {
				faults.add("scopes/"+strconv.Itoa(i), "is not a scope that the role "+r.Role+" implies")
			}
		}
	}
	if r.ExpiresAt != "" {
		t, err := time.Parse(time.RFC3339Nano, r.ExpiresAt)
		if err != nil {
			faults.add("expires_at", "must be a time (RFC 3339)")
		}
		r.expires = t.UnixMicro()
	}
	return faults.problem()
}

// createKey makes a key that may do no more than the caller's. Its text is in this answer and never again:
// repeated under the same Idempotency-Key, the answer has none.
func (s *service) createKey(ctx context.Context, req createKey) (k apiKey, err error) {
	caller, _ := access.From(ctx)
	for _, scope := range access.EffectiveScopes(req.Role, req.Scopes, caller.Operator) {
		if !slices.Contains(caller.Scopes, scope) {
			return k, endpointx.Forbidden(scope)
		}
	}
	now := s.now().UnixMicro()
	if req.expires != 0 && req.expires <= now {
		return k, endpointx.Invalid(map[string]string{"expires_at": "must be in the future"})
	}
	if req.MemberID == "" {
		req.MemberID = caller.MemberID
	}
	id, text, hash := access.NewKey()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		made, replayed, err := s.idem.Do(ctx, tx, func() (string, error) {
			if err := hasMember(ctx, tx, caller.WorkspaceID, req.MemberID); err != nil {
				return "", err
			}
			return id, insertKey(ctx, tx, keyRow{
				id: id, workspaceID: caller.WorkspaceID, memberID: req.MemberID, name: req.Name, role: req.Role,
				scopes: strings.Join(req.Scopes, " "), hash: hash, expiresAt: req.expires, createdAt: now,
			})
		})
		if err != nil {
			return err
		}
		row, err := readKey(ctx, tx, caller.WorkspaceID, made)
		k = row.object()
		if !replayed {
			k.Key = text
		}
		return err
	})
	if err != nil {
		return apiKey{}, err
	}
	s.relay.flush(ctx)
	return k, nil
}

type byID struct {
	ID string `path:"id" json:"-"`
}

// revokeKey is repeatable. The last owner key of a workspace that is valid stays: without it nobody could
// ever make another.
func (s *service) revokeKey(ctx context.Context, req byID) (none struct{}, err error) {
	now := s.now().UnixMicro()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		// Two that revoke two keys at once go one after the other.
		if _, err := tx.ExecContext(ctx, `UPDATE workspaces SET name = name WHERE id = $1`, workspaceOf(ctx)); err != nil {
			return err
		}
		row, err := readKey(ctx, tx, workspaceOf(ctx), req.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return endpointx.NotFound("API key")
		}
		if err != nil || row.revokedAt != 0 {
			return err
		}
		if row.role == access.Owner && row.scopes == "" && row.expiresAt == 0 {
			var others int
			err := tx.QueryRowContext(ctx, `SELECT count(*) FROM keys WHERE workspace_id = $1 AND id <> $2 AND role = $3 AND scopes = ''
				AND revoked_at = 0 AND expires_at = 0`, workspaceOf(ctx), req.ID, access.Owner).Scan(&others)
			if err != nil {
				return err
			}
			if others == 0 {
				return endpointx.Conflict("this is the workspace's last owner key: make another first")
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE keys SET revoked_at = $2 WHERE id = $1`, req.ID, now); err != nil {
			return err
		}
		return mark(ctx, tx, keyEntry(req.ID))
	})
	if err != nil {
		return none, err
	}
	s.relay.flush(ctx)
	return none, nil
}

func insertKey(ctx context.Context, tx *sqldb.Tx, r keyRow) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO keys (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		r.id, r.workspaceID, r.memberID, r.name, r.role, r.scopes, r.hash, r.expiresAt, r.revokedAt, r.createdAt)
	if err != nil {
		return err
	}
	return mark(ctx, tx, keyEntry(r.id))
}

func readKey(ctx context.Context, tx *sqldb.Tx, workspaceID, id string) (r keyRow, err error) {
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM keys WHERE id = $1 AND workspace_id = $2`, id, workspaceID).Scan)
	return r, err
}

func hasMember(ctx context.Context, tx *sqldb.Tx, workspaceID, id string) error {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM members WHERE id = $1 AND workspace_id = $2`, id, workspaceID).Scan(&n)
	if err == nil && n == 0 {
		return endpointx.Invalid(map[string]string{"member_id": "is not a member of this workspace"})
	}
	return err
}

// readAccessKey is a key as the services that check it are told.
func readAccessKey(ctx context.Context, tx *sqldb.Tx, id string) (*pb.AccessKey, error) {
	var r keyRow
	var operator int
	err := tx.QueryRowContext(ctx, `SELECT k.id, k.workspace_id, k.member_id, k.role, k.scopes, k.hash, k.expires_at, k.revoked_at, w.operator
		FROM keys k JOIN workspaces w ON w.id = k.workspace_id WHERE k.id = $1`, id).
		Scan(&r.id, &r.workspaceID, &r.memberID, &r.role, &r.scopes, &r.hash, &r.expiresAt, &r.revokedAt, &operator)
	if err != nil {
		return nil, err
	}
	return &pb.AccessKey{
		Id: r.id, WorkspaceId: r.workspaceID, MemberId: r.memberID, Role: r.role, Scopes: strings.Fields(r.scopes), Hash: r.hash,
		ExpiresAtUs: r.expiresAt, Revoked: r.revokedAt != 0, Operator: operator == 1,
	}, nil
}
