package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/store"
)

func (h *house) search(q string, more url.Values) page[api.Message] {
	h.Helper()
	query := url.Values{"q": {q}}
	for name, values := range more {
		query[name] = values
	}
	return read[page[api.Message]](h.get("/v1/messages/search?" + query.Encode()))
}

func TestSearchFindsWordsWhateverCaseAndAccents(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		id := h.says(p, c, 1_000_000, text("Grüße aus der Straße, CAFÉ Ångström, İstanbul"), nil)
		h.says(p, c, 2_000_000, text("something else"), nil)
		for q, found := range map[string]bool{
			"grusse": true, "GRÜSSE strasse": true, "cafe": true, "angstrom": true, "istanbul": true, "straße café": true,
			"cafe tea": false, "grusse aus die": false,
		} {
			got := h.search(q, nil)
			if !got.Complete || got.Scanned != 2 || (len(got.Items) == 1 && got.Items[0].ID == id) != found {
				t.Errorf("%q: %+v", q, got)
			}
		}
	})
}

func TestSearchKeepsToItsFilterAndPages(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada, bob := h.person(us, "+41790000001", "Ada", 1), h.person(us, "+41790000002", "Bob", 1)
		a, b := h.talk(ada, 5_000_000, nil), h.talk(bob, 5_000_000, nil)
		var of []string
		for i := range 5 {
			of = append(of, h.says(ada, a, int64(i+1)*1_000_000, text("needle"), nil))
			h.says(ada, a, int64(i+1)*1_000_000, text("hay"), nil)
			h.says(bob, b, int64(i+1)*1_000_000, text("needle"), nil)
		}
		slices.Reverse(of)
		for _, filter := range []string{"contact_id=" + ada.contact, "conversation_id=" + a} {
			if got := ids(walk[api.Message](h, "/v1/messages/search?q=needle&"+filter), messageID); !slices.Equal(got, of) {
				t.Errorf("%s: got %v, want %v", filter, got, of)
			}
		}
		if got := walk[api.Message](h, "/v1/messages/search?q=needle"); len(got) != 10 {
			t.Errorf("found %d", len(got))
		}
		at := func(seconds int64) []string { return []string{time.Unix(seconds, 0).UTC().Format(time.RFC3339)} }
		got := h.search("needle", url.Values{"contact_id": {ada.contact}, "after": at(2), "before": at(4)})
		if !slices.Equal(ids(got.Items, messageID), of[2:4]) || !got.Complete {
			t.Errorf("between: %+v", got)
		}
		if got := h.search("needle", url.Values{"contact_id": {ada.contact}, "conversation_id": {b}}); len(got.Items) != 0 || !got.Complete {
			t.Errorf("nothing is selected: %+v", got)
		}
		if asked := h.registry.Calls("Unwrap"); asked > 4 { // a key of two people, for two purposes
			t.Errorf("the registry was asked %d times", asked)
		}
	})
}

func TestSearchSaysHowFarItLooked(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, api.Limits{SearchTime: time.Nanosecond, SearchMost: 1100})
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		id := h.says(p, c, 1, text("needle"), nil)
		h.exec(`INSERT INTO messages (id, workspace_id, conversation_id, connection_id, direction, order_us)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1099)
			SELECT CAST(i AS TEXT), '` + us + `', '` + c + `', '` + connection + `', 'inbound', i + 100 FROM n`)
		// Time is up after every batch: each page says so and goes on behind.
		var scanned []int
		cursor := url.Values{}
		for {
			got := h.search("needle", cursor)
			scanned = append(scanned, got.Scanned)
			if got.NextCursor == "" {
				if len(got.Items) != 1 || got.Items[0].ID != id || got.Complete {
					t.Fatalf("got %+v", got)
				}
				break
			}
			if got.Complete || len(got.Items) != 0 {
				t.Fatalf("got %+v", got)
			}
			cursor.Set("cursor", got.NextCursor)
		}
		if fmt.Sprint(scanned) != "[500 1000 1100]" {
			t.Fatalf("looked through %v", scanned)
		}
	})
}
