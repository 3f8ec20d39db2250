package erasure

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/privacy/certificate"
)

// fakeKeys stands in for the key registry, and fails when told to.
type fakeKeys struct {
	mu                sync.Mutex
	now               func() time.Time
	frozen, destroyed []string
	acked             bool
	fault             error
	key               ed25519.PrivateKey
}

func (k *fakeKeys) Freeze(_ context.Context, _, _ string, ids []string) (time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frozen = append([]string{}, ids...)
	return k.now(), k.fault
}

func (k *fakeKeys) LedgerAcked(context.Context, []string) (bool, error) { return k.acked, k.fault }

func (k *fakeKeys) Destroy(_ context.Context, ids []string) error {
	k.destroyed = append([]string{}, ids...)
	return k.fault
}

func (k *fakeKeys) BackupsUnreadableFrom(context.Context) (time.Time, error) {
	return k.now().Add(8 * 24 * time.Hour), k.fault
}

func (k *fakeKeys) SigningKey(context.Context) (ed25519.PrivateKey, error) { return k.key, k.fault }

// fakeMesh is contacts, holders and the commands they were given.
type fakeMesh struct {
	contacts  map[string]*pb.ContactRecord
	holders   []string
	commands  []*pb.PrivacyCommand
	stale     bool
	unrelayed string // a contact that its holder has and no topic
	silent    bool
}

func (m *fakeMesh) Contact(id string) (*pb.ContactRecord, bool) {
	c, ok := m.contacts[id]
	return c, ok
}
func (m *fakeMesh) Holders() []string { return m.holders }
func (m *fakeMesh) Confirm(context.Context, time.Time) error {
	if m.stale {
		return errors.New("stale")
	}
	return nil
}

func (m *fakeMesh) Knows(_ context.Context, workspaceID, contactID string) (bool, error) {
	if m.silent {
		return false, errSilent
	}
	return workspaceID == "w" && contactID == m.unrelayed, nil
}

func (m *fakeMesh) Publish(_ context.Context, msgs ...bus.Message) error {
	for _, msg := range msgs {
		c := &pb.PrivacyCommand{}
		if err := proto.Unmarshal(msg.Value, c); err != nil {
			return err
		}
		m.commands = append(m.commands, c)
	}
	return nil
}

type bench struct {
	*Service
	keys *fakeKeys
	mesh *fakeMesh
	at   time.Time
}

const subjectA, subjectB = "subject-a", "subject-b"

func newBench(t *testing.T, db *sqldb.DB) *bench {
	t.Helper()
	b := &bench{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return b.at }
	b.keys = &fakeKeys{now: now, acked: true, key: key}
	b.mesh = &fakeMesh{
		contacts: map[string]*pb.ContactRecord{"contact": {Id: "contact", WorkspaceId: "w", SubjectIds: []string{subjectA}, Closed: true}},
		holders:  []string{"archive", "conversation"},
	}
	cfg := Config{CacheTTL: 45 * time.Second, CacheMargin: 15 * time.Second, AskAgain: 30 * time.Second, Poll: time.Hour}
	b.Service = New(cfg, db, b.keys, b.mesh, b.mesh, b.mesh, now, slog.New(slog.DiscardHandler))
	return b
}

// request makes a request for the contact.
func (b *bench) request(t *testing.T) string {
	t.Helper()
	var r request
	if err := b.store.db.Tx(t.Context(), func(tx *sqldb.Tx) (err error) {
		r, err = b.begin(t.Context(), tx, uuid.NewString(), "w", "contact", "key")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// settle advances until nothing moves, as Run does, in a process that has just been started.
func (b *bench) settle(t *testing.T) {
	t.Helper()
	b.asked = map[string]time.Time{}
	for range 20 {
		open, err := b.store.open(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		moved := false
		for _, r := range open {
			m, err := b.advance(t.Context(), r)
			if err != nil && !errors.Is(err, b.keys.fault) && err.Error() != "no holder has declared itself" {
				t.Fatal(err)
			}
			moved = moved || m
		}
		if !moved {
			return
		}
	}
	t.Fatal("never settles")
}

func (b *bench) stored(t *testing.T, id string) request {
	t.Helper()
	r, err := b.store.get(t.Context(), "w", id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) answer(t *testing.T, id, holder, subject string, found, deleted int64, failed string) {
	t.Helper()
	value, err := proto.Marshal(&pb.PrivacyAck{
		RequestId: id, Holder: holder, SubjectId: subject, Kind: pb.PrivacyCommand_KIND_ERASE, Failed: failed,
		Found: map[string]int64{"messages": found}, Deleted: map[string]int64{"messages": deleted},
		Kept: map[string]int64{"group_content": 2}, AtUs: b.at.UnixMicro(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.takeAnswers(t.Context(), []bus.Record{{Value: value}}); err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, test func(t *testing.T, b *bench)) {
	sqltest.Each(t, Migrations, func(t *testing.T, db *sqldb.DB) { test(t, newBench(t, db)) })
}

func TestARequestIsCompletedOnceEveryHolderHasAnswered(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id := b.request(t)
		b.settle(t)
		if r := b.stored(t, id); r.Step != waiting || !slices.Equal(b.keys.frozen, []string{subjectA}) || len(b.mesh.commands) != 0 {
			t.Fatalf("%+v, commands %v", r, b.mesh.commands)
		}
		b.at = b.at.Add(59 * time.Second)
		b.settle(t)
		if r := b.stored(t, id); r.Step != waiting {
			t.Fatalf("holders were asked before the caches were empty: %+v", r)
		}
		b.at = b.at.Add(2 * time.Second)
		b.settle(t)
		b.answer(t, id, "conversation", subjectA, 7, 7, "")
		b.settle(t)
		if r := b.stored(t, id); r.Step != erasing || b.keys.destroyed != nil {
			t.Fatalf("one holder has not answered: %+v", r)
		}
		b.answer(t, id, "archive", subjectA, 0, 0, "")
		b.settle(t)
		r := b.stored(t, id)
		if r.Step != done || r.Status != statusCompleted || !slices.Equal(b.keys.destroyed, []string{subjectA}) {
			t.Fatalf("%+v", r)
		}
		file, err := b.store.certificate(t.Context(), "w", id)
		if err != nil {
			t.Fatal(err)
		}
		c, err := certificate.Verify(file, publicOf(b.keys.key))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Holders) != 2 || c.Holders[1].Deleted["messages"] != 7 || len(c.Exceptions) != 2 || c.Exceptions[0].Reason == "" ||
			!c.CachesEmptyAt.Equal(c.FrozenAt.Add(time.Minute)) {
			t.Fatalf("%+v", c)
		}
	})
}

func TestAHolderThatFailsOrLeavesSomethingIsNamedAndAskedAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id := b.request(t)
		b.settle(t)
		b.at = b.at.Add(2 * time.Minute)
		b.settle(t)
		b.answer(t, id, "archive", subjectA, 0, 0, "")
		for _, c := range []struct {
			found, deleted int64
			failed, want   string
		}{{0, 0, "unavailable", "conversation: unavailable"}, {5, 4, "", "conversation: left messages"}} {
			b.answer(t, id, "conversation", subjectA, c.found, c.deleted, c.failed)
			asked := len(b.mesh.commands)
			b.settle(t)
			if r := b.stored(t, id); r.Status != statusFailed || r.Failed != c.want || len(b.mesh.commands) <= asked {
				t.Fatalf("%+v, asked %d times before and %d now", r, asked, len(b.mesh.commands))
			}
		}
		b.answer(t, id, "conversation", subjectA, 5, 5, "")
		b.answer(t, id, "conversation", subjectA, 0, 0, "a late repetition of the failure")
		b.settle(t)
		if r := b.stored(t, id); r.Status != statusCompleted || r.Failed != "" {
			t.Fatalf("%+v", r)
		}
	})
}

func TestASubjectLinkedBeforeTheContactClosedIsErasedToo(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.mesh.contacts["contact"].Closed = false
		id := b.request(t)
		b.settle(t)
		if r := b.stored(t, id); r.Step != closing {
			t.Fatalf("%+v", r)
		}
		b.mesh.contacts["contact"].Closed = true
		b.mesh.contacts["contact"].SubjectIds = []string{subjectA, subjectB}
		b.settle(t)
		if r := b.stored(t, id); r.Step != waiting || !slices.Equal(b.keys.frozen, []string{subjectA, subjectB}) {
			t.Fatalf("%+v, frozen %v", r, b.keys.frozen)
		}
	})
}

func TestNothingFollowsBeforeTheLedgerAndAFaultIsMetAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.keys.acked = false
		id := b.request(t)
		b.settle(t)
		b.at = b.at.Add(time.Hour)
		b.settle(t)
		if r := b.stored(t, id); r.Step != closing {
			t.Fatalf("%+v", r)
		}
		b.keys.acked, b.keys.fault = true, errors.New("registry away")
		b.settle(t)
		if r := b.stored(t, id); r.Step != closing {
			t.Fatalf("%+v", r)
		}
		b.keys.fault = nil
		b.mesh.holders = nil
		b.settle(t)
		if r := b.stored(t, id); r.Step != waiting {
			t.Fatalf("with no holder known it must wait: %+v", r)
		}
	})
}

func TestASecondRequestJoinsTheFirst(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if first, second := b.request(t), b.request(t); first != second {
			t.Fatalf("%s and %s", first, second)
		}
		b.mesh.stale = true
		delete(b.mesh.contacts, "contact")
		if err := b.known(t.Context(), "w", "contact"); err != nil {
			t.Fatalf("a contact that was erased is known by its request: %v", err)
		}
		if err := b.known(t.Context(), "w", "never"); err == nil || err.Error()[:11] != "unavailable" {
			t.Fatalf("contacts that can't be confirmed are no 404: %v", err)
		}
		b.mesh.stale = false
		if err := b.known(t.Context(), "w", "never"); err == nil || err.Error()[:9] != "not_found" {
			t.Fatal(err)
		}
		b.mesh.silent = true
		if err := b.known(t.Context(), "w", "never"); err == nil || err.Error()[:11] != "unavailable" {
			t.Fatalf("holders that do not answer are no 404: %v", err)
		}
		b.mesh.silent, b.mesh.unrelayed = false, "new"
		if err := b.known(t.Context(), "w", "new"); err != nil {
			t.Fatalf("a contact that its holder shows is known before its record is published: %v", err)
		}
		if err := b.known(t.Context(), "x", "new"); err == nil || err.Error()[:9] != "not_found" {
			t.Fatal(err)
		}
		b.mesh.contacts["contact"] = &pb.ContactRecord{Id: "contact", WorkspaceId: "another"}
		if err := b.known(t.Context(), "w", "contact"); err == nil || err.Error()[:9] != "not_found" {
			t.Fatalf("another workspace's contact: %v", err)
		}
	})
}
