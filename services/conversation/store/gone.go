package store

import (
	"context"
	"database/sql"
	"errors"

	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
)

// Kinds of what can be gone.
const (
	KindContact      = "contact"
	KindConversation = "conversation"
)

// KeepGone remembers the ids of what an erasure deletes, for ever.
func KeepGone(ctx context.Context, tx *sqldb.Tx, workspace, kind string, ids ...string) error {
	rows := make([][]any, len(ids))
	for i, id := range ids {
		rows[i] = []any{id, workspace, kind}
	}
	SortRows(rows)
	return sqldb.InsertRows(ctx, tx, "gone", []string{"id", "workspace_id", "kind"}, rows, "ON CONFLICT (id) DO NOTHING", nil)
}

// Missing is the answer for an id that has no row: 410 where a workspace's own was erased, else 404.
func Missing(ctx context.Context, tx *sqldb.Tx, workspace, kind, id string) error {
	var one int
	err := tx.QueryRowContext(ctx, "SELECT 1 FROM gone WHERE id = $1 AND workspace_id = $2 AND kind = $3", id, workspace, kind).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return problem.NotFound(kind)
	case err != nil:
		return err
	}
	return problem.Gone(kind)
}
