package erase_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/erase"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// ledger publishes entries for people.
func (h *house) ledger(b *bus.Bus, who ...string) {
	h.Helper()
	for _, name := range who {
		value, err := proto.Marshal(&pb.Erasure{SubjectId: h.People[name].ID, WorkspaceId: projecttest.Workspace, RequestId: "request"})
		if err != nil {
			h.Fatal(err)
		}
		if err := b.Publish(context.Background(), bus.Message{Topic: erase.LedgerTopic, Key: h.People[name].ID, Value: value}); err != nil {
			h.Fatal(err)
		}
	}
}

// run applies the ledger until stop is called.
func run(t *testing.T, l *erase.Ledger) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestARestoredDatabaseErasesAgainBeforeItServes(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: erase.LedgerTopic, Compacted: true}); err != nil {
			t.Fatal(err)
		}
		sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
			h := newHouse(t, db)
			h.live() // as it was at the backup: nobody erased
			h.ledger(b, "cai", "ada")
			l := erase.NewLedger(b, h.holder, time.Minute)
			late := func(ctx context.Context) error { // an event of the erased that the restored service has not seen
				value, err := proto.Marshal(h.Direct("cai", "s9", "late", 1_500_000))
				if err != nil {
					return err
				}
				return l.Before(h.Projector.Handle)(ctx, []bus.Record{{Topic: "inbound.sms", Value: value}})
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := late(over); !errors.Is(err, context.Canceled) || l.Ready() == nil {
				t.Errorf("before the ledger was read: %v, ready: %v", err, l.Ready())
			}
			stop := run(t, l)
			bustest.Eventually(t, "the ledger is applied", func() bool { return l.Ready() == nil })
			if err := late(t.Context()); err != nil {
				t.Fatal(err)
			}
			stop()
			for _, who := range []string{"cai", "ada"} {
				if left := h.residue(who); left != nil {
					t.Errorf("left of %s: %v", who, left)
				}
			}
			h.answers(apitest.Owner(projecttest.Workspace), "cai", http.StatusGone)
			if h.Count("messages WHERE author_subject = $1", h.People["bob"].ID) != 1 {
				t.Error("somebody else lost a message")
			}
			if n := h.Count("outbox WHERE topic = 'privacy.acks'"); n != 0 {
				t.Errorf("%d answers to commands that nobody gave", n)
			}
			if n, err := h.holder.ApplyLedger(t.Context(), []*pb.Erasure{{SubjectId: h.People["cai"].ID}}); n != 0 || err != nil {
				t.Errorf("applied again: %d, %v", n, err)
			}
		})
	})
}

// A service that starts in the middle of an erasure finds people in the ledger whose caches are not empty
// yet: they are closed at once, and erased only when it is time.
func TestWhoWasFrozenJustNowIsErasedWhenItIsTime(t *testing.T) {
	const wait = 400 * time.Millisecond
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: erase.LedgerTopic, Compacted: true}); err != nil {
			t.Fatal(err)
		}
		each(t, func(t *testing.T, h *house) {
			h.live()
			frozen := h.Clock.Now()
			value, err := proto.Marshal(&pb.Erasure{SubjectId: h.People["cai"].ID, WorkspaceId: projecttest.Workspace, RequestId: "request", FrozenAtUs: frozen.UnixMicro()})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Publish(t.Context(), bus.Message{Topic: erase.LedgerTopic, Key: h.People["cai"].ID, Value: value}); err != nil {
				t.Fatal(err)
			}
			l := erase.NewLedger(b, h.holder, wait)
			began := time.Now()
			stop := run(t, l)
			defer stop()
			bustest.Eventually(t, "the ledger is applied", func() bool { return l.Ready() == nil })
			h.answers(apitest.Owner(projecttest.Workspace), "cai", http.StatusGone)
			if left := h.residue("cai"); left == nil && time.Since(began) < wait {
				t.Error("erased before the caches can be empty")
			}
			if !slices.ContainsFunc(h.Told(store.TopicContacts), func(e *pb.OutboxEntries_Entry) bool {
				var c pb.ContactRecord
				return proto.Unmarshal(e.GetPayload(), &c) == nil && c.Id == channel.ContactID(h.People["cai"].ID) && c.Closed
			}) {
				t.Error("the contact was not closed")
			}
			bustest.Eventually(t, "the person is erased", func() bool { return h.residue("cai") == nil })
			h.answers(apitest.Owner(projecttest.Workspace), "cai", http.StatusGone)
		})
	})
}

// A service that starts in the middle of an erasure reads the ledger before the command comes.
func TestTheLedgerQuickerThanTheCommandChangesNoCertificate(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		h.order(freeze, "ada", "f")
		found := h.order(collect, "ada", "c")
		entry := &pb.Erasure{SubjectId: h.People["ada"].ID, WorkspaceId: projecttest.Workspace, RequestId: "request"}
		if n, err := h.holder.ApplyLedger(t.Context(), []*pb.Erasure{entry, {}}); n != 1 || err != nil {
			t.Fatalf("applied: %d, %v", n, err)
		}
		for kind, id := range map[pb.PrivacyCommand_Kind]string{collect: "c2", erasing: "e"} {
			ack := h.order(kind, "ada", id)
			for what, n := range found.Found {
				if ack.Found[what] != n || kind == erasing && ack.Deleted[what] != n {
					t.Errorf("%v: %s: found %d, deleted %d, want %d", kind, what, ack.Found[what], ack.Deleted[what], n)
				}
			}
			if ack.Kept["group_content"] != 1 {
				t.Errorf("%v: kept %v", kind, ack.Kept)
			}
		}
		h.Exec(func(tx *sqldb.Tx) error {
			_, err := tx.ExecContext(context.Background(), "DELETE FROM privacy_commands WHERE id = 'e'")
			return err
		})
		if again := h.order(erasing, "ada", "e"); again.Found["messages"] != found.Found["messages"] {
			t.Errorf("the command again: %v", again)
		}
	})
}
