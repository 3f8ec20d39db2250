package project_test

import (
	"testing"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// What follows from what somebody did before brings nobody back under another subject.
func TestOnlyWhatAPersonDoesMakesAContact(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		consent := func(action string) *pb.ChannelEvent {
			e := w.Event(pb.EventType_EVENT_TYPE_CONSENT, "cai", action, 1_000_000)
			e.ContactSubject = e.AuthorSubject
			e.Consent = &pb.Consent{Action: action, Source: "provider"}
			w.Named(e, "cai")
			return e
		}
		w.Feed(consent("opt_out"), consent("flagged"), w.Profile("cai", "1", "Cai", 1_000_000), w.Fetched("cai", "1", "a.txt", "x", "attachments/1", 1_000_000))
		if w.Count("contacts") != 0 || w.Count("identities") != 0 || w.Count("consents") != 2 {
			t.Errorf("%d contacts, %d consents", w.Count("contacts"), w.Count("consents"))
		}
		w.Feed(consent("opt_in"))
		if w.Count("contacts") != 1 || w.Count("identities") != 1 {
			t.Error("who opts in is no contact")
		}
	})
}
