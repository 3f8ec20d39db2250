package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/services/conversation/store"
)

// A page of a large list must cost what a page of a small one does: each list is read along an index,
// and nothing is sorted.
func TestListsAreReadAlongAnIndex(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		fill(t, db)
		open, connection := "open", "3"
		conversations := func(req listConversations) (string, []any) {
			condition, args := req.condition("w", 40_000<<bucketShift, "x")
			return selectConversations + condition, args
		}
		for _, c := range []struct{ name, index, query string }{
			{"messages before", "messages_conversation", selectMessages + messagesBefore},
			{"messages after", "messages_conversation", selectMessages + messagesAfter},
			{"search of a workspace", "messages_workspace", selectMessages + newestOfWorkspace},
			{"search of a conversation", "messages_conversation", selectMessages + newestOfConversation},
			{"events", "outbox_", eventsAfter},
			{"conversations", "conversations_workspace", ""},
			{"conversations by status", "conversations_status", ""},
			{"conversations by connection", "conversations_connection", ""},
		} {
			query, args := c.query, []any{"1", int64(4000), "x", int64(1), 50}
			switch c.index {
			case "messages_conversation":
				if !strings.Contains(query, "$5") {
					args = args[:4]
				}
			case "outbox_":
				args = []any{"w", "conversations", int64(1), int64(100), 50}
			case "conversations_workspace":
				query, args = conversations(listConversations{})
			case "conversations_status":
				query, args = conversations(listConversations{Status: &open})
			case "conversations_connection":
				query, args = conversations(listConversations{ConnectionID: &connection})
			}
			plan := explain(t, db, query, args)
			// Of conversations, those of one bucket are sorted.
			if strings.HasPrefix(c.index, "conversations_") {
				plan = strings.NewReplacer("Incremental Sort", "", "Sort Key: c.last_bucket DESC, c.last_us DESC, c.id DESC", "").Replace(plan)
			}
			if !strings.Contains(plan, c.index) || strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") ||
				strings.Contains(plan, "SCAN m") || strings.Contains(plan, "SCAN c\n") ||
				strings.Contains(plan, "Seq Scan on subjects") || strings.Contains(plan, "SCAN a\n") {
				t.Errorf("%s:\n%s", c.name, plan)
			}
		}
	})
}

// fill makes enough rows for a planner to tell tables from small ones.
func fill(t *testing.T, db *sqldb.DB) {
	t.Helper()
	const numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
	err := db.Tx(context.Background(), func(tx *sqldb.Tx) error {
		for _, statement := range []string{
			`INSERT INTO conversations (id, workspace_id, channel, connection_id, status, first_us, last_us) ` + strings.Replace(numbers, "5000", "50000", 1) +
				`SELECT CAST(i AS TEXT), 'w', 'sms', CAST(i % 100 AS TEXT), CASE WHEN i % 50 = 0 THEN 'open' ELSE 'resolved' END, i, i << 26 FROM n`,
			`INSERT INTO messages (id, workspace_id, conversation_id, connection_id, direction, order_us) ` + numbers +
				`SELECT CAST(i AS TEXT), 'w', CAST(i % 3 AS TEXT), 'c', 'inbound', i FROM n`,
			`INSERT INTO subjects (id, workspace_id, gone) ` + numbers + `SELECT CAST(i AS TEXT), 'w', CASE WHEN i % 500 = 0 THEN 1 ELSE 0 END FROM n`,
			`INSERT INTO outbox (id, seq, topic, message_key, payload, type, workspace_id, position, created_us) ` + numbers +
				`SELECT CAST(i AS TEXT), i, 'conversations', 'k', $1, 't', CASE WHEN i % 9 = 0 THEN 'w' ELSE 'v' END, i, i FROM n`,
			"ANALYZE",
		} {
			if statement == "ANALYZE" && db.Dialect() == "sqlite3" { // nobody does there
				continue
			}
			var args []any
			if strings.Contains(statement, "$1") {
				args = []any{[]byte{}}
			}
			if _, err := tx.ExecContext(context.Background(), statement, args...); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func explain(t *testing.T, db *sqldb.DB, query string, args []any) string {
	t.Helper()
	how := "EXPLAIN QUERY PLAN "
	if db.Dialect() == "postgres" {
		how = "EXPLAIN "
	}
	var plan strings.Builder
	err := db.View(context.Background(), func(tx *sqldb.Tx) error {
		return sqldb.Query(context.Background(), tx, how+query, args, func(row sqldb.Row) error {
			values := []any{new(any), new(any), new(any), new(any)}
			if db.Dialect() == "postgres" {
				values = values[:1]
			}
			err := row.Scan(values...)
			fmt.Fprintln(&plan, *values[len(values)-1].(*any))
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
