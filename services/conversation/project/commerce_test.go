package project_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// orders are a person's, as the API shows them.
func orders(w *projecttest.World, who string) (items []struct {
	ID, Status  string
	Refunds     []struct{ ID, Status string }
	Fulfilments []struct{ ID string }
}) {
	w.Helper()
	r := httptest.NewRequest(http.MethodGet, "/v1/contacts/"+channel.ContactID(w.People[who].ID)+"/orders", nil)
	answer := httptest.NewRecorder()
	apitest.Handler(w.Routes, apitest.Owner(projecttest.Workspace)).ServeHTTP(answer, r)
	var page struct{ Items json.RawMessage }
	if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != 200 {
		w.Fatalf("%d %s", answer.Code, answer.Body)
	}
	if err := json.Unmarshal(page.Items, &items); err != nil {
		w.Fatal(err)
	}
	return items
}

func TestAnOlderStateOfAnOrderNeverCountsAgain(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		w.Feed(w.Direct("cai", "s1", "hello", 1_000_000), w.Orders("cai", "order", "1", "", "paid", 9_000_000))
		before := w.Count("outbox WHERE topic = 'conversations'")
		w.Feed(w.Orders("cai", "order", "1", "", "open", 8_000_000))
		w.Feed(w.Orders("cai", "order", "1", "", "paid", 9_000_000)) // and the same one changes nothing
		if got := orders(w, "cai"); len(got) != 1 || got[0].Status != "paid" {
			t.Errorf("shows %v", got)
		}
		if w.Count("outbox WHERE topic = 'conversations'") != before {
			t.Error("an older state is told to who follows")
		}
		w.Feed(w.Orders("cai", "order", "1", "", "closed", 10_000_000))
		if got := orders(w, "cai"); got[0].Status != "closed" {
			t.Errorf("shows %v", got)
		}
	})
}

func TestAnOrderMakesAContactAndNoConversation(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		w.Feed(w.Orders("cai", "refund", "5", "1", "success", 9_000_000), w.Orders("cai", "fulfilment", "6", "1", "success", 9_000_000))
		if w.Count("contacts") != 0 || w.Count("commerce") != 2 {
			t.Error("what a shop does about an order makes a contact")
		}
		w.Feed(w.Orders("cai", "order", "1", "", "open", 8_000_000))
		if w.Count("contacts") != 1 || w.Count("identities") != 1 || w.Count("conversations") != 0 {
			t.Errorf("%d contacts, %d conversations", w.Count("contacts"), w.Count("conversations"))
		}
		if got := orders(w, "cai"); len(got) != 1 || len(got[0].Refunds) != 1 || len(got[0].Fulfilments) != 1 {
			t.Errorf("what came before its order does not hang on it: %v", got)
		}
	})
}

// Another workspace's part, moved into the row of an order, does not open there: the origin says which order it is.
func TestAStateMovedToAnotherOrderDoesNotOpen(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		w.Feed(w.Orders("cai", "order", "1", "", "open", 8_000_000), w.Orders("cai", "order", "2", "", "paid", 8_000_000))
		w.Exec(func(tx *sqldb.Tx) error {
			_, err := tx.ExecContext(context.Background(), "UPDATE commerce SET ciphertext = (SELECT ciphertext FROM commerce WHERE id = '2') WHERE id = '1'")
			return err
		})
		for _, o := range orders(w, "cai") {
			if (o.ID == "1") != (o.Status == "") {
				t.Errorf("%s shows %q", o.ID, o.Status)
			}
		}
	})
}

// What is asked by privacy law is kept as it came, until somebody can carry it out, and makes nobody a contact.
func TestARequestByPrivacyLawIsKept(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		asked := w.Event(pb.EventType_EVENT_TYPE_PRIVACY, "cai", "redact", 1_000_000)
		asked.Reason = "customers/redact"
		nobodys := w.Event(pb.EventType_EVENT_TYPE_PRIVACY, "", "shop", 1_000_000)
		w.Feed(asked, nobodys)
		if w.Count("unknown_events") != 2 || w.Count("unknown_events WHERE subject_id = $1", w.People["cai"].ID) != 1 || w.Count("contacts") != 0 {
			t.Errorf("%d are kept, %d contacts", w.Count("unknown_events"), w.Count("contacts"))
		}
	})
}

func TestCommerceThatCanNotBePlacedIsADeadLetter(t *testing.T) {
	w := projecttest.New(t, sqltest.SQLite(t, store.Migrations()))
	for what, spoil := range map[string]func(*pb.ChannelEvent){
		"nobody's":             func(e *pb.ChannelEvent) { e.AuthorSubject = "" },
		"no object":            func(e *pb.ChannelEvent) { e.Commerce = nil },
		"ordered by its comer": func(e *pb.ChannelEvent) { e.OrderReceived = true },
	} {
		e := proto.CloneOf(w.Orders("cai", "order", "1", "", "open", 1_000_000))
		e.Id = uuid.NewString()
		spoil(e)
		err := w.Projector.Handle(context.Background(), []bus.Record{projecttest.Record(t, e)})
		if reason, ok := bus.IsDataFault(err); !ok || reason != "incomplete" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
