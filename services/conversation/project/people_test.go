package project_test

import (
	"context"
	"testing"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
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

// A copy that was received earlier amends a contact, though its transaction began before the contact was there.
func TestACopyAmendsTheContactThatWasMadeWhileItWaited(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db)
		first := w.Edit("ada", "1", "a", "edited", 10_000_000, true)
		subject := first.AuthorSubject
		handled := make(chan error, 1)
		w.Exec(func(tx *sqldb.Tx) error { // what projecting the first writes, up to its commit
			if _, err := store.LockSubjects(t.Context(), tx, []store.Subject{{ID: subject, Workspace: projecttest.Workspace}}); err != nil {
				return err
			}
			for statement, args := range map[string][]any{
				"INSERT INTO seen_events (id, at_us) VALUES ($1, 1)": {first.Id},
				"INSERT INTO contacts (id, workspace_id, subject_id, created_us) VALUES ($1, $2, $3, $4)": {
					channel.ContactID(subject), projecttest.Workspace, subject, first.OrderUs},
				`INSERT INTO identities (subject_id, workspace_id, contact_id, channel, connection_id, kind, order_us, event_id)
					VALUES ($1, $2, $3, 'slack', $4, 'slack_user', $5, $6)`: {
					subject, projecttest.Workspace, channel.ContactID(subject), projecttest.SlackConnection, first.OrderUs, first.Id},
			} {
				if _, err := tx.ExecContext(context.Background(), statement, args...); err != nil {
					return err
				}
			}
			copied := w.Edit("ada", "1", "a", "edited", 2_000_000, true)
			go func() {
				handled <- w.Projector.Handle(context.WithoutCancel(t.Context()), []bus.Record{projecttest.Record(t, copied)})
			}()
			if db.Dialect() == "postgres" { // SQLite's writers wait before they begin
				bustest.Eventually(t, "the copy waits for the subject", func() bool {
					n := 0
					err := db.View(t.Context(), func(tx *sqldb.Tx) error {
						return tx.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
					})
					return err == nil && n == 1
				})
			}
			return nil
		})
		if err := <-handled; err != nil {
			t.Fatal(err)
		}
		if n := w.Count("contacts WHERE created_us = $1", projecttest.Base+2_000_000); n != 1 {
			t.Error("the copy did not amend the contact")
		}
	})
}
