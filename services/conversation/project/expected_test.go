package project_test

import (
	"testing"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// A small batch is projected as if nobody were hidden and nothing had been seen. Where that turns out wrong, nothing
// of it stays, and it is projected as any other.
func TestWhatWasNotExpectedIsProjectedAsItIs(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		direct := func(who, external string, order int64) *pb.ChannelEvent {
			return w.Direct(who, external, "words", order)
		}
		counts := func() (n [5]int) {
			for i, table := range []string{"seen_events", "conversations", "external_refs", "messages", "outbox"} {
				n[i] = w.Count(table)
			}
			return n
		}
		shown := func() int {
			known := 0
			for _, row := range w.Placed() {
				if time.Since(row.Shown) < time.Minute {
					known++
				}
			}
			return known
		}
		w.Feed(direct("ada", "1", 1_000_000), direct("bob", "2", 1_000_000), direct("cai", "3", 1_000_000))
		if shown() != 0 {
			t.Error("of people who were never met it is known what is shown")
		}
		first := counts()
		w.Feed(direct("ada", "4", 2_000_000))
		if shown() != 1 {
			t.Errorf("%d rows of a message of somebody who is shown are known to be shown", shown())
		}
		if got, want := counts(), [5]int{first[0] + 1, first[1], first[2] + 1, first[3] + 1, first[4] + 1}; got != want {
			t.Fatalf("a message more: %v, want %v", got, want)
		}

		second := counts()
		w.Feed(direct("ada", "4", 2_000_000))
		w.Feed(direct("ada", "4", 2_000_000), direct("bob", "2", 1_000_000))
		if got := counts(); got != second {
			t.Errorf("seen before: %v, want %v", got, second)
		}
		w.Feed(direct("ada", "4", 2_000_000), direct("bob", "5", 2_000_000))
		if got, want := counts(), [5]int{second[0] + 1, second[1], second[2] + 1, second[3] + 1, second[4] + 1}; got != want {
			t.Errorf("one of two seen before: %v, want %v", got, want)
		}
		if shown() != 0 {
			t.Error("a batch of which something was seen is as was expected")
		}

		third, bob, cai := counts(), w.People["bob"].ID, w.People["cai"].ID
		w.Exec(func(tx *sqldb.Tx) error {
			if _, err := tx.ExecContext(t.Context(), "UPDATE subjects SET gone = 1 WHERE id = $1", bob); err != nil {
				return err
			}
			_, err := tx.ExecContext(t.Context(), "UPDATE subjects SET frozen = 1 WHERE id = $1", cai)
			return err
		})
		w.Feed(direct("bob", "6", 3_000_000))
		third[0]++
		if got := counts(); got != third {
			t.Errorf("of the gone: %v, want %v", got, third)
		}
		w.Feed(direct("cai", "7", 3_000_000))
		third[0], third[2], third[3] = third[0]+1, third[2]+1, third[3]+1
		if got := counts(); got != third {
			t.Errorf("of the frozen: %v, want %v", got, third)
		}
		if n := w.Count("contacts WHERE id = '" + channel.ContactID(cai) + "'"); n != 1 {
			t.Errorf("%d contacts of the frozen", n)
		}
	})
}

// What is told of a receipt that waited is told whoever is hidden, and looked at where it is read.
func TestAStatusIsNotTakenForShown(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		w.Feed(w.Direct("ada", "1", "words", 1_000_000))
		receipt := w.Receipt("r", 1_500_000, &pb.Receipt{Status: pb.Status_STATUS_DELIVERED})
		receipt.ConnectionId, receipt.Channel, receipt.TargetExternalId = projecttest.SMSConnection, "sms", "2"
		w.Feed(receipt)
		echo := w.Direct("ada", "2", "words", 2_000_000)
		echo.Direction = pb.Direction_DIRECTION_OUTBOUND
		w.Feed(echo)
		if len(w.Placed()) == 0 {
			t.Fatal("nothing is told")
		}
		for _, row := range w.Placed() {
			if !row.Shown.IsZero() {
				t.Errorf("%d entries are known to be shown", row.Entries)
			}
		}
	})
}

// An event of the gone is dropped, whatever is wrong with it.
func TestWhatIsOfTheGoneIsNoFault(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		w.Feed(w.Direct("ada", "1", "words", 1_000_000))
		w.Exec(func(tx *sqldb.Tx) error {
			_, err := tx.ExecContext(t.Context(), "UPDATE subjects SET gone = 1 WHERE id = $1", w.People["ada"].ID)
			return err
		})
		odd := w.Direct("ada", "2", "words", 2_000_000)
		odd.ExternalId = "2\x00" // no text to PostgreSQL
		w.Feed(odd)
		if n := w.Count("messages"); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}
