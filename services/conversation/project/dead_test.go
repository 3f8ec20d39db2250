package project_test

import (
	"bytes"
	"testing"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// An event that became a dead letter stays its person's: told again as another's it shows nothing, brought
// back it is handled, once, and so is a copy of the same person's.
func TestADeadLetterStaysItsPersons(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := world{projecttest.New(t, db)}
		dump := func() []byte { return apitest.Dump(w, w.Routes, projecttest.Workspace) }
		dies := func(external string) {
			t.Helper()
			if err := w.Projector.Dying(t.Context(), projecttest.Record(t, w.Direct("cai", external, "old words", 1_000_000))); err != nil {
				t.Fatal(err)
			}
		}
		before := dump()
		dies("s1")
		dies("s1") // in each attempt to publish the letter
		w.Feed(w.Direct("bob", "s1", "old words", 9_000_000))
		if got := dump(); !bytes.Equal(got, before) {
			t.Fatalf("told again as another's, it is shown: %s", got)
		}
		w.Feed(w.Direct("cai", "s1", "old words", 1_000_000))
		brought := dump()
		if n := w.Count("messages"); n != 1 {
			t.Fatalf("brought back, it is %d messages", n)
		}
		w.Feed(w.Direct("cai", "s1", "old words", 1_000_000), w.Direct("cai", "s1", "old words", 1_000_000))
		if got := dump(); !bytes.Equal(got, brought) {
			t.Fatalf("brought back twice, it is not as once: %s", got)
		}

		dies("s2")
		w.Feed(w.Direct("cai", "s2", "new words", 2_000_000)) // the provider sends it again, and it can be handled now
		dies("s2")                                            // somebody brings it back while it still can't
		if n := w.Count("messages"); n != 2 {
			t.Fatalf("sent again, there are %d messages", n)
		}
	})
}
