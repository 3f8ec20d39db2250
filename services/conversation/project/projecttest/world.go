// Package projecttest makes the conversation service's parts on a database, and people whose events the
// tests of those parts feed them.
package projecttest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
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
	"tributary.dev/services/conversation/store"
)

// Where it all happens.
const (
	Workspace       = "workspace-a"
	SlackConnection = "11111111-1111-4111-8111-111111111111"
	SMSConnection   = "22222222-2222-4222-8222-222222222222"
	// Base is when it all happens; the mesh's clock stands an hour later.
	Base = int64(1_700_000_000_000_000)
)

// World is the service's parts on a database, and people whose events it makes.
type World struct {
	testing.TB
	DB        *sqldb.DB
	Keys      *seal.Client
	Registry  *sealtest.Registry
	Clock     *clock.Clock
	Send      *sending.Sending
	Projector *project.Projector
	Routes    []app.Route
	// Bucket is the memory behind the API's.
	Bucket *blob.Bucket
	// People are ada, bob and cai.
	People map[string]seal.Subject

	mu     sync.Mutex
	now    time.Time
	states map[string]*pb.Connection
	// committed is Holding's.
	committed func()
	// placed are the rows of the last transaction that gave them their positions.
	placed []store.Row
}

// Holding is how the World's parts are set; what is zero is as usual.
type Holding struct {
	Sending sending.Config
	// Committed is called when a transaction may have written to the outbox.
	Committed func()
}

// New makes a World. Its clock stands an hour after Base until it is made to pass, and every connection is
// active until the test says otherwise.
func New(t testing.TB, db *sqldb.DB, with ...Holding) *World {
	t.Helper()
	set := Holding{Committed: func() {}}
	for _, h := range with {
		set.Sending = h.Sending
		if h.Committed != nil {
			set.Committed = h.Committed
		}
	}
	w := &World{TB: t, DB: db, People: map[string]seal.Subject{}, now: time.UnixMicro(Base).Add(time.Hour),
		states: map[string]*pb.Connection{}, Bucket: memblob.OpenBucket(nil)}
	w.Keys, w.Registry = sealtest.New(t)
	w.Clock = &clock.Clock{Local: w.Now}
	tel := telemetry.Discard()
	var err error
	if w.Send, err = sending.New(db, w.Keys, w, w.Clock, tel, set.Sending, set.Committed); err != nil {
		t.Fatal(err)
	}
	w.committed = set.Committed
	w.project()
	w.Exec(holdLease)
	read, err := api.New(api.Config{DB: db, Seal: w.Keys, Clock: w.Clock, Sending: w.Send, Bucket: media.NewBucket(w.Bucket), Committed: set.Committed,
		Idempotency: endpointx.NewIdempotency(db, []byte("secret"), w.Clock.Now)})
	if err != nil {
		t.Fatal(err)
	}
	w.Routes = read.Routes()
	t.Cleanup(func() {
		read.Close()
		_ = w.Projector.Close()
		_ = w.Bucket.Close()
	})
	for _, name := range []string{"ada", "bob", "cai"} {
		subjects, err := w.Keys.Acquire(context.Background(), []seal.Act{{Identity: seal.Identity{Workspace: Workspace, Kind: "test", Value: name}}})
		if err != nil {
			t.Fatal(err)
		}
		w.People[name] = subjects[0]
	}
	return w
}

// Now is the World's time.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Pass lets time pass.
func (w *World) Pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Connect sets a connection's state, as changed now.
func (w *World) Connect(id string, status pb.ConnectionStatus) {
	now := w.Now().UnixMicro()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[id] = &pb.Connection{Id: id, WorkspaceId: Workspace, Status: status, UpdatedAtUs: now}
}

// Get gives a connection's state: active, and changed in the far future, unless the test has set it.
func (w *World) Get(id string) (*pb.Connection, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.states[id]; c != nil {
		return c, true
	}
	return &pb.Connection{Id: id, WorkspaceId: Workspace, Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, UpdatedAtUs: 1 << 60}, true
}

// Event makes an event of a person ("" for nobody's) with its id made of what.
func (w *World) Event(typ pb.EventType, who, what string, order int64) *pb.ChannelEvent {
	return &pb.ChannelEvent{Id: channel.EventID(SlackConnection, channel.Type(typ.String()), what, time.Time{}), WorkspaceId: Workspace,
		ConnectionId: SlackConnection, Channel: "slack", Type: typ, OrderUs: Base + order, ReceivedAtUs: Base + order, AuthorSubject: w.People[who].ID,
		IdentityKind: "slack_user"}
}

func (w *World) seal(e *pb.ChannelEvent, who string, category pb.Category, origin seal.Origin, m proto.Message) {
	plain, err := proto.Marshal(m)
	if err != nil {
		w.Fatal(err)
	}
	part, err := seal.Seal(w.People[who], category, origin, plain)
	if err != nil {
		w.Fatal(err)
	}
	e.Parts = append(e.Parts, part)
}

func (w *World) Named(e *pb.ChannelEvent, who string) {
	w.seal(e, who, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(w.People[who].ID), &pb.Profile{IdentityKind: e.IdentityKind, IdentityValue: who})
}

// MessageID of a message on Slack, whose ids carry no time here.
func MessageID(external string) string {
	return channel.MessageID(SlackConnection, external, time.Time{})
}

// Says is a message in a group thread; kind is the provider's type of event.
func (w *World) Says(who, external, kind, text string, order int64, files ...string) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_MESSAGE, who, kind+external, order)
	e.ConversationKey, e.Thread = channel.GroupKey(SlackConnection, "C1:1"), &pb.Thread{Id: "C1:1", Group: true}
	e.ExternalId, e.MessageId, e.SourceType, e.Direction = external, MessageID(external), kind, pb.Direction_DIRECTION_INBOUND
	w.Writes(e, who, text, files...)
	w.Named(e, who)
	return e
}

// Writes seals an event's content, in which @ada, @bob and @cai are mentions.
func (w *World) Writes(e *pb.ChannelEvent, who, text string, files ...string) {
	content := &pb.Content{Text: text}
	for _, name := range []string{"ada", "bob", "cai"} {
		if at := strings.Index(text, "@"+name); at >= 0 {
			content.Mentions = append(content.Mentions, &pb.Mention{Start: int32(at), Length: int32(len(name) + 1), IdentityKind: "test", IdentityValue: name})
		}
	}
	for _, f := range files {
		id := channel.AttachmentID(e.MessageId, f)
		e.Attachments = append(e.Attachments, &pb.AttachmentRef{Id: id, Kind: "file", ContentType: "text/plain", Size: 3})
		content.Attachments = append(content.Attachments, &pb.Attachment{Id: id, Name: f})
	}
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginContent(e.MessageId, e.OrderUs), content)
}

// Direct is a text message from a person, whose order is when it was received.
func (w *World) Direct(who, external, text string, order int64) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_MESSAGE, who, "sms"+external, order)
	e.ConnectionId, e.Channel, e.IdentityKind, e.OrderReceived = SMSConnection, "sms", "phone", true
	e.ContactSubject, e.ConversationKey = e.AuthorSubject, channel.DirectKey(e.AuthorSubject, SMSConnection)
	e.ExternalId, e.MessageId, e.Direction = external, channel.MessageID(SMSConnection, external, time.Time{}), pb.Direction_DIRECTION_INBOUND
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginContent(e.MessageId, e.OrderUs), &pb.Content{Text: text})
	w.Named(e, who)
	return e
}

func (w *World) Edit(who, target, what, text string, order int64, received bool, files ...string) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_EDIT, who, "edit"+target+what, order)
	e.TargetExternalId, e.MessageId, e.OrderReceived = target, MessageID(target), received
	w.Writes(e, who, text, files...)
	return e
}

func (w *World) Deletes(target, what string, order int64) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_DELETION, "", "delete"+target+what, order)
	e.TargetExternalId, e.MessageId = target, MessageID(target)
	return e
}

func (w *World) Reacts(who, target, emoji, what string, order int64, removed bool) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_REACTION, who, "react"+target+emoji+what, order)
	e.TargetExternalId, e.MessageId = target, MessageID(target)
	e.Reaction = &pb.Reaction{ReactionKey: seal.ReactionKey(w.People[who], e.MessageId, emoji), Removed: removed}
	w.seal(e, who, pb.Category_CATEGORY_CONTENT, seal.OriginReaction(e.Reaction.ReactionKey, e.OrderUs), &pb.Content{Emoji: emoji})
	return e
}

// Fetched tells what became of a file; object empty: it failed.
func (w *World) Fetched(who, target, file, what, object string, order int64) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_ATTACHMENT, who, "file"+target+file+what, order)
	e.TargetExternalId = target
	a := &pb.AttachmentRef{Id: channel.AttachmentID(MessageID(target), file), Kind: "file", ContentType: "image/png", Size: 70, Object: object}
	if object == "" {
		a.ContentType, a.Size, a.Failed = "", 0, what
	} else {
		var err error
		if a.Key, err = seal.Seal(w.People[who], pb.Category_CATEGORY_CONTENT, seal.OriginAttachment(a.Id), []byte("key")); err != nil {
			w.Fatal(err)
		}
	}
	e.Attachments = []*pb.AttachmentRef{a}
	return e
}

func (w *World) Profile(who, what, name string, order int64) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_PROFILE, who, "profile"+who+what, order)
	w.seal(e, who, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(w.People[who].ID), &pb.Profile{Name: name})
	return e
}

// Shop is where everybody orders.
const Shop = "33333333-3333-4333-8333-333333333333"

// Orders is a state of an order, or, with a parent, of what the shop did about one. The state is told in its status.
func (w *World) Orders(who, kind, id, parent, status string, order int64) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_COMMERCE, who, strings.Join([]string{kind, id, parent, status, who, fmt.Sprint(order)}, "/"), order)
	e.ConnectionId, e.Channel, e.IdentityKind = Shop, "shopify", "phone"
	e.ConversationKey = channel.DirectKey(e.AuthorSubject, Shop)
	e.Commerce = &pb.CommerceRef{Kind: kind, Id: id, Parent: parent, Deleted: status == "deleted"}
	w.seal(e, who, pb.Category_CATEGORY_COMMERCE, seal.OriginCommerce(Shop, kind, id, e.OrderUs), &pb.Commerce{
		Number: "#" + id, Status: status, Currency: "CHF", Total: "12.30", CreatedAtUs: Base, UpdatedAtUs: e.OrderUs, Email: who + "@example.com",
		Lines: []*pb.CommerceLine{{Id: "1", Title: "boots of " + who, Quantity: 2, Price: "6.15"}},
	})
	w.Named(e, who)
	return e
}

func (w *World) Receipt(what string, order int64, r *pb.Receipt) *pb.ChannelEvent {
	e := w.Event(pb.EventType_EVENT_TYPE_RECEIPT, "", "receipt"+what, order)
	e.Receipt = r
	return e
}

// Copied is the same event, received at another time.
func Copied(e *pb.ChannelEvent, reseal func(e *pb.ChannelEvent), order int64) *pb.ChannelEvent {
	c := proto.CloneOf(e)
	c.OrderUs = Base + order
	reseal(c)
	return c
}

func Record(t testing.TB, e *pb.ChannelEvent) bus.Record {
	value, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Record{Topic: "inbound." + e.Channel, Key: e.ConversationKey, Value: value}
}

// Feed handles events in one batch.
func (w *World) Feed(events ...*pb.ChannelEvent) {
	w.Helper()
	records := make([]bus.Record, len(events))
	for i, e := range events {
		records[i] = Record(w, e)
	}
	if err := w.Projector.Handle(context.Background(), records); err != nil {
		w.Fatalf("handle: %v", err)
	}
}

var tables = strings.Fields(`subjects seen_events contacts identities profiles conversations participants external_refs messages edits
	reactions attachments commerce message_parts waiting_receipts consents unknown_events connection_slots outbox leases privacy_commands
	object_deletions idempotency uploads gone`)

// relay is told of transactions, and lets them place what they append.
type relay func(turn *store.Turn)

func (relay) Turn() *store.Turn {
	return &store.Turn{Token: lease, Until: math.MaxInt64, Number: rand.Int64()}
}

// lease is what the World holds the relay's with.
const lease = "world"

func holdLease(tx *sqldb.Tx) error {
	_, err := tx.ExecContext(context.Background(), "INSERT INTO leases (name, token, until_us) VALUES ('relay', $1, 0) ON CONFLICT DO NOTHING", lease)
	return err
}

func (told relay) Committed(turn *store.Turn) { told(turn) }

// Placed are the rows of the last transaction of a projector that gave them their positions.
func (w *World) Placed() []store.Row {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.placed
}

// project gives the World a projector that remembers nothing, as a process does that is started.
func (w *World) project() {
	w.Helper()
	p, err := project.New(w.DB, w.Send, w.Clock, telemetry.Discard(), relay(func(turn *store.Turn) {
		_, rows := turn.Placed()
		w.mu.Lock()
		w.placed = rows
		w.mu.Unlock()
		w.committed()
	}))
	if err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Projector = p
}

// Handle is the present projector's.
func (w *World) Handle(ctx context.Context, records []bus.Record) error {
	w.mu.Lock()
	p := w.Projector
	w.mu.Unlock()
	return p.Handle(ctx, records)
}

// Empty empties the database, and starts on it anew.
func (w *World) Empty() {
	w.Helper()
	_ = w.Projector.Close()
	w.project()
	w.Exec(func(tx *sqldb.Tx) error {
		for _, table := range tables {
			if _, err := tx.ExecContext(context.Background(), "DELETE FROM "+table); err != nil {
				return err
			}
		}
		return holdLease(tx)
	})
}

func (w *World) Exec(f func(tx *sqldb.Tx) error) {
	w.Helper()
	if err := w.DB.Tx(context.Background(), f); err != nil {
		w.Fatal(err)
	}
}

// Count counts what a query selects.
func (w *World) Count(query string, args ...any) (n int) {
	w.Helper()
	w.Exec(func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM "+query, args...).Scan(&n)
	})
	return n
}

// Told gives what the outbox holds for a topic, in its order.
func (w *World) Told(topic string) (told []*pb.OutboxEntries_Entry) {
	w.Helper()
	w.Exec(func(tx *sqldb.Tx) error {
		told = nil
		return sqldb.Query(context.Background(), tx, "SELECT message_key, payload, entries FROM outbox WHERE topic = $1 ORDER BY seq, id", []any{topic}, func(rows sqldb.Row) error {
			row, count := &pb.OutboxEntries_Entry{}, 0
			if err := rows.Scan(&row.Key, &row.Payload, &count); err != nil {
				return err
			}
			entries, err := store.Entries(count, 0, row)
			for _, e := range entries {
				told = append(told, e.OutboxEntries_Entry)
			}
			return err
		})
	})
	return told
}

// Posted posts a message of ours to the SMS or group conversation, under an id of the test's choice.
func (w *World) Posted(conversation, id, text string) {
	w.Helper()
	ctx := context.Background()
	d, err := w.Send.Draft(ctx, Workspace, conversation)
	if err != nil {
		w.Fatal(err)
	}
	d.MessageID = id
	if err := w.Send.Compose(ctx, d, sending.Message{Text: text, MemberID: "member"}); err != nil {
		w.Fatal(err)
	}
	w.Exec(func(tx *sqldb.Tx) error { return w.Send.Post(ctx, tx, d) })
}

// ID is a message's, of the test's choice.
func ID(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }
