package project_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/project"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

func TestWhatCanNoLongerCountIsForgottenAtTheHorizon(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := world{projecttest.New(t, db)}
		awaited := w.Receipt("awaited", 1_000_000, &pb.Receipt{Status: pb.Status_STATUS_DELIVERED})
		awaited.TargetExternalId = "never4"
		w.Feed(
			// What stays: a message with what hangs on it, a profile, consent.
			w.Says("ada", "1", "message", "hello", 1_000_000, "a.txt"), w.Edit("ada", "1", "1", "edited", 2_000_000, false),
			w.Edit("ada", "1", "2", "edited again", 3_000_000, false), w.Reacts("bob", "1", "+1", "a", 2_000_000, false),
			w.Fetched("ada", "1", "a.txt", "x", "attachments/1", 2_000_000),
			w.Profile("ada", "1", "Ada", 1_000_000), w.Profile("ada", "2", "Ada Li", 2_000_000),
			// What waits for a message that never comes.
			w.Edit("ada", "never1", "1", "edited", 2_000_000, false), w.Reacts("bob", "never2", "+1", "a", 2_000_000, false),
			w.Fetched("ada", "never3", "a.txt", "x", "attachments/never3", 2_000_000), awaited, w.Deletes("never5", "1", 2_000_000))
		forget := func() {
			t.Helper()
			if err := w.Projector.Forget(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		rows := func() map[string]int {
			n := map[string]int{}
			for _, table := range []string{"seen_events", "edits", "reactions", "attachments", "waiting_receipts", "external_refs", "profiles", "messages", "object_deletions"} {
				n[table] = w.Count(table)
			}
			return n
		}
		is := func(when string, want map[string]int) {
			t.Helper()
			got := rows()
			for table, n := range want {
				if got[table] != n {
					t.Errorf("%s: %d rows of %s, want %d", when, got[table], table, n)
				}
			}
		}
		before, shown := rows(), apitest.Dump(w, w.Routes, projecttest.Workspace)
		w.Pass(project.Horizon - 2*time.Hour) // the clock stands an hour after the events
		forget()
		is("just before the horizon", before)
		w.Pass(3 * time.Hour)
		forget()
		is("behind the horizon", map[string]int{"seen_events": 0, "edits": 1, "reactions": 1, "attachments": 1, "waiting_receipts": 0,
			"external_refs": 1, "profiles": 1, "messages": 1, "object_deletions": 1})
		if w.Count("object_deletions WHERE object = 'attachments/never3'") != 1 {
			t.Error("the object that nobody declared is not deleted")
		}
		if w.Count("edits WHERE order_us = $1", projecttest.Base+3_000_000) != 1 || w.Count("profiles WHERE order_us = $1", projecttest.Base+2_000_000) != 1 {
			t.Error("not the newest of edits and profiles has stayed")
		}
		if after := apitest.Dump(w, w.Routes, projecttest.Workspace); !bytes.Equal(after, shown) {
			t.Errorf("forgetting changed what is shown:\n%s", diff(shown, after))
		}
	})
}
