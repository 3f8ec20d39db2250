package erase_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/media"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/erase"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

const (
	freeze  = pb.PrivacyCommand_KIND_FREEZE
	collect = pb.PrivacyCommand_KIND_COLLECT
	erasing = pb.PrivacyCommand_KIND_ERASE
)

// house is a World with its holder.
type house struct {
	*projecttest.World
	holder *erase.Holder
	bucket *flaky
}

// flaky is a bucket that may be away.
type flaky struct {
	*media.Bucket
	mu   sync.Mutex
	away bool
}

func (f *flaky) Delete(ctx context.Context, object string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return errors.New("away")
	}
	return f.Bucket.Delete(ctx, object)
}

func each(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, newHouse(t, db)) })
}

func newHouse(t *testing.T, db *sqldb.DB) *house {
	t.Helper()
	h := &house{World: projecttest.New(t, db)}
	h.bucket = &flaky{Bucket: media.NewBucket(h.Bucket)}
	var err error
	if h.holder, err = erase.New(db, h.bucket, h.Keys, h.Clock, telemetry.Discard(), func() {}); err != nil {
		t.Fatal(err)
	}
	return h
}

// order hands the holder a command and gives its answer.
func (h *house) order(kind pb.PrivacyCommand_Kind, who, id string) *pb.PrivacyAck {
	h.Helper()
	value, err := proto.Marshal(&pb.PrivacyCommand{Id: id, RequestId: "request", WorkspaceId: projecttest.Workspace, SubjectId: h.People[who].ID, Kind: kind})
	if err != nil {
		h.Fatal(err)
	}
	if err := h.holder.Handle(context.Background(), []bus.Record{{Topic: erase.CommandsTopic, Key: h.People[who].ID, Value: value}}); err != nil {
		h.Fatal(err)
	}
	return h.lastAck()
}

func (h *house) lastAck() *pb.PrivacyAck {
	h.Helper()
	ack := &pb.PrivacyAck{}
	h.Exec(func(tx *sqldb.Tx) error {
		var raw []byte
		if err := tx.QueryRowContext(context.Background(), "SELECT payload FROM outbox WHERE topic = 'privacy.acks' ORDER BY seq DESC LIMIT 1").Scan(&raw); err != nil {
			return err
		}
		return proto.Unmarshal(raw, ack)
	})
	return ack
}

func (h *house) asks(caller access.Caller, method, path, body string) *httptest.ResponseRecorder {
	h.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	apitest.Handler(h.Routes, caller).ServeHTTP(w, r)
	return w
}

// answers checks the status of every way to ask for a contact and its conversation.
func (h *house) answers(caller access.Caller, who string, status int) {
	h.Helper()
	conversation := channel.DirectKey(h.People[who].ID, projecttest.SMSConnection)
	for _, ask := range []struct{ method, path, body string }{
		{http.MethodGet, "/v1/contacts/" + channel.ContactID(h.People[who].ID), ""},
		{http.MethodGet, "/v1/contacts/" + channel.ContactID(h.People[who].ID) + "/orders", ""},
		{http.MethodGet, "/v1/conversations/" + conversation, ""},
		{http.MethodPatch, "/v1/conversations/" + conversation, `{"status":"open"}`},
		{http.MethodPost, "/v1/conversations/" + conversation + "/read", `{}`},
		{http.MethodGet, "/v1/conversations/" + conversation + "/messages", ""},
		{http.MethodPost, "/v1/conversations/" + conversation + "/messages", `{"text":"hello"}`},
	} {
		if w := h.asks(caller, ask.method, ask.path, ask.body); w.Code/100 != status/100 || w.Code >= 400 && w.Code != status {
			h.Errorf("%s %s: %d %s, want %d", ask.method, ask.path, w.Code, w.Body, status)
		}
	}
}

// lists tells whether a list names an id.
func (h *house) lists(path, id string) bool {
	h.Helper()
	w := h.asks(apitest.Owner(projecttest.Workspace), http.MethodGet, path, "")
	if w.Code != http.StatusOK {
		h.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return strings.Contains(w.Body.String(), id)
}

// residue names the rows that still tell of a subject, but for what is kept on purpose: the ids of events,
// of the gone and of the subject itself, and consents.
func (h *house) residue(who string) (left []string) {
	h.Helper()
	subject := h.People[who].ID
	for _, of := range []struct{ table, column, value string }{
		{"contacts", "subject_id", subject}, {"identities", "subject_id", subject}, {"profiles", "subject_id", subject},
		{"conversations", "contact_subject", subject}, {"conversations", "contact_id", channel.ContactID(subject)},
		{"participants", "subject_id", subject}, {"messages", "author_subject", subject}, {"messages", "content_subject", subject},
		{"edits", "author_subject", subject}, {"edits", "content_subject", subject}, {"reactions", "author_subject", subject},
		{"attachments", "subject_id", subject}, {"attachments", "key_subject", subject}, {"uploads", "subject_id", subject},
		{"message_parts", "subject_id", subject}, {"unknown_events", "subject_id", subject}, {"commerce", "subject_id", subject},
		{"messages", "conversation_id", channel.DirectKey(subject, projecttest.SMSConnection)},
	} {
		if n := h.Count(of.table+" WHERE "+of.column+" = $1", of.value); n > 0 {
			left = append(left, fmt.Sprintf("%d in %s.%s", n, of.table, of.column))
		}
	}
	if n := h.Count("outbox WHERE topic LIKE 'outbound.%' AND conversation_id = $1", channel.DirectKey(subject, projecttest.SMSConnection)); n > 0 {
		left = append(left, "commands")
	}
	return left
}

// live gives the world some history: cai by text message, ada and bob in a group, and our own answers.
func (h *house) live() {
	h.Helper()
	h.Feed(h.Direct("cai", "s1", "hello", 1_000_000), h.Direct("cai", "s2", "again", 2_000_000), h.Profile("cai", "1", "Cai", 3_000_000),
		h.Orders("cai", "order", "1", "", "open", 3_000_000), h.Orders("cai", "refund", "2", "1", "success", 3_500_000),
		h.Orders("bob", "order", "1", "", "open", 3_000_000),
		h.Says("ada", "1", "message", "hello bob", 4_000_000, "a.txt"), h.Says("bob", "2", "message", "hello ada", 5_000_000),
		h.Edit("ada", "1", "1", "hello, bob", 6_000_000, false), h.Reacts("ada", "2", "+1", "a", 7_000_000, false),
		h.Reacts("bob", "1", "+1", "b", 8_000_000, false), h.Fetched("ada", "1", "a.txt", "x", "attachments/ada", 9_000_000))
	h.Posted(channel.DirectKey(h.People["cai"].ID, projecttest.SMSConnection), projecttest.ID(1), "hello cai")
	h.Posted(channel.GroupKey(projecttest.SlackConnection, "C1:1"), projecttest.ID(2), "hello both")
}

func TestAFrozenPersonIsGoneAtOnceAndWhatLeavesWaits(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		us := apitest.Owner(projecttest.Workspace)
		contact, conversation := channel.ContactID(h.People["cai"].ID), channel.DirectKey(h.People["cai"].ID, projecttest.SMSConnection)
		if !h.lists("/v1/contacts", contact) || !h.lists("/v1/conversations", conversation) {
			t.Fatal("not listed before")
		}
		h.order(freeze, "cai", "f")
		h.answers(us, "cai", http.StatusGone)
		if h.lists("/v1/contacts", contact) || h.lists("/v1/conversations", conversation) {
			t.Error("lists show who is frozen")
		}
		const told = "outbox WHERE topic = 'conversations'"
		before := h.Count(told)
		h.Feed(h.Direct("cai", "s3", "third", 10_000_000)) // accepted before the eviction: erased with the person
		if h.lists("/v1/conversations", conversation) {
			t.Error("a new message shows who is frozen")
		}
		if h.Count(told) != before {
			t.Error("the stream tells of who is frozen")
		}
		found := h.order(collect, "cai", "c")
		if found.Found["messages"] != 4 || found.Found["conversations"] != 1 || found.Found["contacts"] != 1 || found.Found["profiles"] != 1 || len(found.Deleted) != 0 {
			t.Errorf("collected %v", found)
		}
		if !h.lists("/v1/contacts", channel.ContactID(h.People["ada"].ID)) {
			t.Error("another contact is hidden too")
		}
	})
}

func TestWhoWasErasedIsGoneForEver(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		h.order(freeze, "cai", "f")
		found := h.order(collect, "cai", "c")
		ack := h.order(erasing, "cai", "e")
		if fmt.Sprint(ack.Found) != fmt.Sprint(found.Found) || fmt.Sprint(ack.Deleted) != fmt.Sprint(found.Found) || ack.Found["messages"] != 3 ||
			ack.Deleted["commerce"] != 2 {
			t.Errorf("collected %v, erased %v of %v", found.Found, ack.Deleted, ack.Found)
		}
		if left := h.residue("cai"); left != nil {
			t.Errorf("left behind: %v", left)
		}
		h.answers(apitest.Owner(projecttest.Workspace), "cai", http.StatusGone)
		h.answers(apitest.Owner("another"), "cai", http.StatusNotFound)
		if again := h.order(erasing, "cai", "e"); !proto.Equal(again, ack) {
			t.Errorf("the same command again: %v, want %v", again, ack)
		}
		if other := h.order(erasing, "cai", "e2"); other.Found["messages"] != 0 {
			t.Errorf("another command finds %v", other.Found)
		}
		// What comes late is dropped, whether it was seen before or not.
		h.Feed(h.Direct("cai", "s1", "hello", 1_000_000), h.Direct("cai", "s9", "late", 1_500_000), h.Profile("cai", "2", "Cai", 3_000_000),
			h.Orders("cai", "order", "1", "", "open", 3_000_000), h.Orders("cai", "order", "1", "", "closed", 9_000_000))
		if left := h.residue("cai"); left != nil {
			t.Errorf("came back: %v", left)
		}
		if h.Count("seen_events WHERE id = $1", h.Direct("cai", "s9", "late", 1_500_000).Id) != 1 {
			t.Error("the id of a dropped event is not remembered")
		}
		// Nobody else lost anything.
		if h.Count("messages WHERE conversation_id = $1", channel.GroupKey(projecttest.SlackConnection, "C1:1")) != 3 {
			t.Error("the group has lost messages")
		}
		if h.Count("commerce WHERE subject_id = $1", h.People["bob"].ID) != 1 {
			t.Error("who else is named by the same order has lost it")
		}
	})
}

func TestOfAGroupOnlyThePersonsOwnGoes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		group := channel.GroupKey(projecttest.SlackConnection, "C1:1")
		ack := h.order(erasing, "ada", "e")
		if ack.Deleted["messages"] != 1 || ack.Deleted["reactions"] != 1 || ack.Deleted["edits"] != 1 || ack.Kept["group_content"] != 1 {
			t.Errorf("erased %v, kept %v", ack.Deleted, ack.Kept)
		}
		if left := h.residue("ada"); left != nil {
			t.Errorf("left behind: %v", left)
		}
		if h.Count("messages WHERE conversation_id = $1", group) != 2 || h.Count("reactions") != 0 {
			t.Error("what others wrote is not as it was")
		}
		if w := h.asks(apitest.Owner(projecttest.Workspace), http.MethodGet, "/v1/conversations/"+group, ""); w.Code != http.StatusOK {
			t.Errorf("the group: %d", w.Code)
		}
		if ack := h.order(erasing, "bob", "e2"); ack.Deleted["messages"] != 2 || ack.Deleted["conversations"] != 1 || ack.Kept["group_content"] != 0 {
			t.Errorf("the last one: erased %v, kept %v", ack.Deleted, ack.Kept)
		}
		if h.Count("conversations WHERE id = $1", group) != 0 || h.Count("message_parts WHERE conversation_id = $1", group) != 0 {
			t.Error("what members wrote outlives everybody it was written to")
		}
	})
}

func TestTwoOfAGroupErasedAtOnceLeaveNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		var both sync.WaitGroup
		for _, who := range []string{"ada", "bob"} {
			value, err := proto.Marshal(&pb.PrivacyCommand{Id: who, WorkspaceId: projecttest.Workspace, SubjectId: h.People[who].ID, Kind: erasing})
			if err != nil {
				t.Fatal(err)
			}
			both.Go(func() {
				if err := h.holder.Handle(context.Background(), []bus.Record{{Value: value}}); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if n := h.Count("messages WHERE conversation_id = $1", channel.GroupKey(projecttest.SlackConnection, "C1:1")); n != 0 {
			t.Errorf("%d messages are left of a group of nobody", n)
		}
	})
}

func TestAnErasureThatRacesProjectionsLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for round := range 6 {
			h.Empty()
			h.live()
			var racing sync.WaitGroup
			for worker := range 4 {
				racing.Go(func() {
					for i := range 5 {
						what := fmt.Sprint(round, worker, i)
						h.Feed(h.Direct("cai", "s"+what, "text", int64(i+1)*1_000_000), h.Profile("cai", what, "Cai", int64(i+1)*1_000_000),
							h.Says("cai", "g"+what, "message", "in a group", int64(i+1)*1_000_000, "f.txt"), h.Reacts("cai", "2", "+1", what, 1_000_000, false),
							h.Orders("cai", "order", what, "", "open", 1_000_000))
					}
				})
			}
			racing.Go(func() { h.order(erasing, "cai", fmt.Sprint("e", round)) })
			racing.Wait()
			if left := h.residue("cai"); left != nil {
				t.Fatalf("left behind: %v", left)
			}
		}
	})
}

func TestObjectsAreDeletedOnceTheBucketIsThere(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		if err := h.Bucket.WriteAll(ctx, "attachments/ada", []byte("sealed"), nil); err != nil {
			t.Fatal(err)
		}
		h.live()
		h.order(erasing, "ada", "e")
		h.bucket.away = true
		if _, err := h.holder.DeleteObjectsOnce(ctx); err == nil || h.Count("object_deletions") != 1 {
			t.Fatalf("a bucket that is away: %v, %d to delete", err, h.Count("object_deletions"))
		}
		h.bucket.away = false
		// The file's event comes once more, from a partition that lags: its object must not stay either.
		if err := h.Bucket.WriteAll(ctx, "attachments/late", []byte("sealed"), nil); err != nil {
			t.Fatal(err)
		}
		h.Feed(h.Fetched("ada", "1", "a.txt", "y", "attachments/late", 11_000_000))
		for range 2 { // and again once all is done
			if _, err := h.holder.DeleteObjectsOnce(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, object := range []string{"attachments/ada", "attachments/late"} {
			if there, err := h.Bucket.Exists(ctx, object); err != nil || there {
				t.Errorf("%s: there %v, %v", object, there, err)
			}
		}
		if h.Count("object_deletions") != 0 {
			t.Error("deletions are left")
		}
	})
}

// Who shall be erased may be shown before any topic has their contact: the holder itself is asked.
func TestWhetherThereIsAContactIsAnsweredFromTheStore(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.live()
		asked := func(workspace, contact string) int64 {
			value, err := proto.Marshal(&pb.PrivacyCommand{Id: "q", RequestId: "q", WorkspaceId: workspace, ContactId: contact, Kind: collect})
			if err != nil {
				t.Fatal(err)
			}
			if err := h.holder.Handle(t.Context(), []bus.Record{{Topic: erase.CommandsTopic, Value: value}}); err != nil {
				t.Fatal(err)
			}
			ack := h.lastAck()
			if ack.RequestId != "q" || ack.Holder != erase.HolderName || ack.Kind != collect || ack.SubjectId != "" {
				t.Errorf("answered %v", ack)
			}
			return ack.Found["contacts"]
		}
		cai := channel.ContactID(h.People["cai"].ID)
		if asked(projecttest.Workspace, cai) != 1 || asked("another", cai) != 0 || asked(projecttest.Workspace, "never") != 0 {
			t.Error("a contact of the workspace is one, and nothing else is")
		}
		h.order(erasing, "cai", "e")
		if asked(projecttest.Workspace, cai) != 0 {
			t.Error("who was erased is still there")
		}
	})
}

func TestACommandThatCannotBeReadIsAFaultOfItsData(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, store.Migrations()))
	for name, value := range map[string][]byte{"not one": []byte("\xff\xff"), "without a subject": {}} {
		err := h.holder.Handle(context.Background(), []bus.Record{{Value: value}})
		if _, ok := bus.IsDataFault(err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ack := h.order(99, "cai", "later"); ack.Failed != "unsupported" {
		t.Errorf("an unknown kind: %v", ack)
	}
}
