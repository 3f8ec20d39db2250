package project_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/project"
	"tributary.dev/services/conversation/sending"
)

const (
	workspace = "workspace-a"
	slackConn = "11111111-1111-4111-8111-111111111111"
	smsConn   = "22222222-2222-4222-8222-222222222222"
	// base is when it all happens; the mesh's clock stands an hour later.
	base = int64(1_700_000_000_000_000)
)

// everyone's connections are active.
type active struct{}

func (active) Get(id string) (*pb.Connection, bool) {
	return &pb.Connection{Id: id, WorkspaceId: workspace, Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, UpdatedAtUs: 1 << 60}, true
}

// world is the service's parts on a database, and people whose events it makes.
type world struct {
	testing.TB
	db        *sqldb.DB
	keys      *seal.Client
	registry  *sealtest.Registry
	send      *sending.Sending
	projector *project.Projector
	routes    []app.Route
	people    map[string]seal.Subject
}

func newWorld(t testing.TB, db *sqldb.DB) *world {
	t.Helper()
	w := &world{TB: t, db: db, people: map[string]seal.Subject{}}
	w.keys, w.registry = sealtest.New(t)
	clk := &clock.Clock{Local: func() time.Time { return time.UnixMicro(base).Add(time.Hour) }}
	tel := telemetry.Discard()
	var err error
	if w.send, err = sending.New(db, w.keys, active{}, clk, tel, sending.Config{}, func() {}); err != nil {
		t.Fatal(err)
	}
	if w.projector, err = project.New(db, w.send, clk, tel, func() {}); err != nil {
		t.Fatal(err)
	}
	bucket := media.NewBucket(memblob.OpenBucket(nil))
	read, err := api.New(api.Config{DB: db, Seal: w.keys, Clock: clk, Sending: w.send, Bucket: bucket, Committed: func() {},
		Idempotency: endpointx.NewIdempotency(db, []byte("secret"), clk.Now)})
	if err != nil {
		t.Fatal(err)
	}
	w.routes = read.Routes()
	t.Cleanup(func() {
		read.Close()
		_ = w.projector.Close()
		_ = bucket.Close()
	})
	for _, name := range []string{"ada", "bob", "cai"} {
		subjects, err := w.keys.Acquire(context.Background(), []seal.Act{{Identity: seal.Identity{Workspace: workspace, Kind: "test", Value: name}}})
		if err != nil {
			t.Fatal(err)
		}
		w.people[name] = subjects[0]
	}
	return w
}

// event makes an event of a person ("" for nobody's) with its id made of what.
func (w *world) event(typ pb.EventType, who, what string, order int64) *pb.ChannelEvent {
	return &pb.ChannelEvent{Id: channel.EventID(slackConn, channel.Type(typ.String()), what, time.Time{}), WorkspaceId: workspace,
		ConnectionId: slackConn, Channel: "slack", Type: typ, OrderUs: base + order, ReceivedAtUs: base + order, AuthorSubject: w.people[who].ID,
		IdentityKind: "slack_user"}
}

func (w *world) seal(e *pb.ChannelEvent, who string, category pb.Category, origin seal.Origin, m proto.Message) {
	plain, err := proto.Marshal(m)
	if err != nil {
		w.Fatal(err)
	}
	part, err := seal.Seal(w.people[who], category, origin, plain)
	if err != nil {
		w.Fatal(err)
	}
	e.Parts = append(e.Parts, part)
}

func (w *world) named(e *pb.ChannelEvent, who string) {
	w.seal(e, who, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(w.people[who].ID), &pb.Profile{IdentityKind: e.IdentityKind, IdentityValue: who})
}

// messageID of a message on Slack, whose ids carry no time here.
func messageID(external string) string { return channel.MessageID(slackConn, external, time.Time{}) }

// says is a message in a group thread; kind is the provider's type of event.
func (w *world) says(who, external, kind, text string, order int64, files ...string) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_MESSAGE, who, kind+external, order)
	e.ConversationKey, e.Thread = channel.GroupKey(slackConn, "C1:1"), &pb.Thread{Id: "C1:1", Group: true}
	e.ExternalId, e.MessageId, e.SourceType, e.Direction = external, messageID(external), kind, pb.Direction_DIRECTION_INBOUND
	w.writes(e, who, text, files...)
	w.named(e, who)
	return e
}

// writes seals an event's content.
func (w *world) writes(e *pb.ChannelEvent, who, text string, files ...string) {
	content := &pb.Content{Text: text}
	for _, f := range files {
		id := channel.AttachmentID(e.MessageId, f)
		e.Attachments = append(e.Attachments, &pb.AttachmentRef{Id: id, Kind: "file", ContentType: "text/plain", Size: 3})
		content.Attachments = append(content.Attachments, &pb.Attachment{Id: id, Name: f})
	}
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginContent(e.MessageId, e.OrderUs), content)
}

// direct is a text message from a person, whose order is when it was received.
func (w *world) direct(who, external, text string, order int64) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_MESSAGE, who, "sms"+external, order)
	e.ConnectionId, e.Channel, e.IdentityKind, e.OrderReceived = smsConn, "sms", "phone", true
	e.ContactSubject, e.ConversationKey = e.AuthorSubject, channel.DirectKey(e.AuthorSubject, smsConn)
	e.ExternalId, e.MessageId, e.Direction = external, channel.MessageID(smsConn, external, time.Time{}), pb.Direction_DIRECTION_INBOUND
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginContent(e.MessageId, e.OrderUs), &pb.Content{Text: text})
	w.named(e, who)
	return e
}

func (w *world) edit(who, target, what, text string, order int64, received bool, files ...string) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_EDIT, who, "edit"+target+what, order)
	e.TargetExternalId, e.MessageId, e.OrderReceived = target, messageID(target), received
	w.writes(e, who, text, files...)
	return e
}

func (w *world) deletes(target, what string, order int64) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_DELETION, "", "delete"+target+what, order)
	e.TargetExternalId, e.MessageId = target, messageID(target)
	return e
}

func (w *world) reacts(who, target, emoji, what string, order int64, removed bool) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_REACTION, who, "react"+target+emoji+what, order)
	e.TargetExternalId, e.MessageId = target, messageID(target)
	e.Reaction = &pb.Reaction{ReactionKey: seal.ReactionKey(w.people[who], e.MessageId, emoji), Removed: removed}
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginReaction(e.Reaction.ReactionKey, e.OrderUs), &pb.Content{Emoji: emoji})
	return e
}

// fetched tells what became of a file; object empty: it failed.
func (w *world) fetched(who, target, file, what, object string, order int64) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_ATTACHMENT, who, "file"+target+file+what, order)
	e.TargetExternalId = target
	a := &pb.AttachmentRef{Id: channel.AttachmentID(messageID(target), file), Kind: "file", ContentType: "image/png", Size: 70, Object: object}
	if object == "" {
		a.ContentType, a.Size, a.Failed = "", 0, what
	} else {
		var err error
		if a.Key, err = seal.Seal(w.people[who], pb.Category_CATEGORY_CONTENT, seal.OriginAttachment(a.Id), []byte("key")); err != nil {
			w.Fatal(err)
		}
	}
	e.Attachments = []*pb.AttachmentRef{a}
	return e
}

func (w *world) profile(who, what, name string, order int64) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_PROFILE, who, "profile"+who+what, order)
	w.seal(e, who, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(w.people[who].ID), &pb.Profile{Name: name})
	return e
}

func (w *world) receipt(what string, order int64, r *pb.Receipt) *pb.ChannelEvent {
	e := w.event(pb.EventType_EVENT_TYPE_RECEIPT, "", "receipt"+what, order)
	e.Receipt = r
	return e
}

// copied is the same event, received at another time.
func copied(e *pb.ChannelEvent, reseal func(e *pb.ChannelEvent), order int64) *pb.ChannelEvent {
	c := proto.CloneOf(e)
	c.OrderUs = base + order
	reseal(c)
	return c
}

func record(t testing.TB, e *pb.ChannelEvent) bus.Record {
	value, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Record{Topic: "inbound." + e.Channel, Key: e.ConversationKey, Value: value}
}

// feed handles events in one batch.
func (w *world) feed(events ...*pb.ChannelEvent) {
	w.Helper()
	records := make([]bus.Record, len(events))
	for i, e := range events {
		records[i] = record(w, e)
	}
	if err := w.projector.Handle(context.Background(), records); err != nil {
		w.Fatalf("handle: %v", err)
	}
}

var tables = strings.Fields(`subjects seen_events contacts identities profiles conversations participants external_refs messages edits
	reactions attachments message_parts waiting_receipts consents unknown_events connection_slots outbox leases privacy_commands
	object_deletions idempotency uploads`)

// empty empties the database.
func (w *world) empty() {
	w.Helper()
	w.exec(func(tx *sql.Tx) error {
		for _, table := range tables {
			if _, err := tx.Exec("DELETE FROM " + table); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) exec(f func(tx *sql.Tx) error) {
	w.Helper()
	if err := w.db.Tx(context.Background(), f); err != nil {
		w.Fatal(err)
	}
}

// count counts what a query selects.
func (w *world) count(query string, args ...any) (n int) {
	w.Helper()
	w.exec(func(tx *sql.Tx) error { return tx.QueryRow("SELECT COUNT(*) FROM "+query, args...).Scan(&n) })
	return n
}

// posted posts a message of ours to the SMS or group conversation, under an id of the test's choice.
func (w *world) posted(conversation, id, text string) {
	w.Helper()
	ctx := context.Background()
	d, err := w.send.Draft(ctx, workspace, conversation)
	if err != nil {
		w.Fatal(err)
	}
	d.MessageID = id
	if err := w.send.Compose(ctx, d, sending.Message{Text: text, MemberID: "member"}); err != nil {
		w.Fatal(err)
	}
	w.exec(func(tx *sql.Tx) error { return w.send.Post(ctx, tx, d) })
}

func id(n int) string { return fmt.Sprintf("0000000%d-0000-4000-8000-000000000000", n) }
