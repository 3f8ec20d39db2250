package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// What one transaction tells of a workspace is one row, unless it is very much; commands stay by themselves.
func TestWhatIsToldOfAWorkspaceIsGathered(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		var entries []store.Entry
		want := map[string][]string{}
		add := func(topic, workspace string, n int) {
			for range n {
				id := fmt.Sprintf("%04d", len(entries))
				entries = append(entries, store.Entry{ID: id, Topic: topic, Key: "key of " + id, Type: "type", Traceparent: "trace", Workspace: workspace,
					Payload: &pb.ConversationEvent{MessageId: id}})
				want[topic+"/"+workspace] = append(want[topic+"/"+workspace], id)
			}
		}
		for range 2 {
			add(store.TopicConversations, "a", 3)
			add(store.TopicConversations, "b", 1)
			add(store.TopicOutbound("slack"), "a", 2)
			add(store.TopicContacts, "a", 1)
			add(store.TopicAcks, "a", 1)
		}
		add(store.TopicConversations, "c", 1100)

		ctx := context.Background()
		rows, got := map[string]int{}, map[string][]string{}
		if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			clear(rows)
			clear(got)
			if err := store.Append(ctx, tx, 1, entries...); err != nil {
				return err
			}
			return sqldb.Query(ctx, tx, "SELECT topic, workspace_id, id, message_key, type, traceparent, payload, entries FROM outbox ORDER BY seq, id", nil, func(r sqldb.Row) error {
				var topic, workspace string
				var count int
				var e pb.OutboxEntries_Entry
				if err := r.Scan(&topic, &workspace, &e.Id, &e.Key, &e.Type, &e.Traceparent, &e.Payload, &count); err != nil {
					return err
				}
				held, err := store.Entries(count, int64(1000+count), &e)
				rows[topic+"/"+workspace]++
				for i, p := range held {
					got[topic+"/"+workspace] = append(got[topic+"/"+workspace], p.GetId())
					if p.Position != int64(1001+i) || p.GetKey() != "key of "+p.GetId() || p.GetType() != "type" || p.GetTraceparent() != "trace" || len(p.GetPayload()) == 0 {
						t.Errorf("entry %d of %s: %v", i, topic, p)
					}
				}
				return err
			})
		}); err != nil {
			t.Fatal(err)
		}
		for what, n := range map[string]int{"conversations/a": 1, "conversations/b": 1, "conversations/c": 3, "contacts/a": 1, "outbound.slack/a": 4, "privacy.acks/a": 2} {
			if rows[what] != n {
				t.Errorf("%s: %d rows, want %d", what, rows[what], n)
			}
			if !slices.Equal(got[what], want[what]) {
				t.Errorf("%s: %v, want %v", what, got[what], want[what])
			}
		}
	})
}
