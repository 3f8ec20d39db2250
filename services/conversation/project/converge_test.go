package project_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// world tells events, and what the API answers then.
type world struct{ *projecttest.World }

// story draws a set of events that touch each other in every way the event language has.
func (w world) story(t *rapid.T) []*pb.ChannelEvent {
	var events []*pb.ChannelEvent
	maybe := func(e ...*pb.ChannelEvent) {
		for _, e := range e {
			if rapid.IntRange(0, 3).Draw(t, "in") > 0 {
				events = append(events, e)
			}
		}
	}
	order := func() int64 { return rapid.Int64Range(1, 40).Draw(t, "order") * 1_000_000 }
	for _, m := range []struct{ who, external string }{{"ada", "1"}, {"bob", "2"}, {"ada", "3"}} {
		at := order()
		maybe(w.Says(m.who, m.external, "message", "hello @cai and @bob "+m.external, at, "a.txt", "b.txt"))
		maybe(w.Says(m.who, m.external, "app_mention", "hello @cai and @bob "+m.external, at))
		if rapid.Bool().Draw(t, "edited") {
			maybe(w.Edit(m.who, m.external, "1", "edited once", order(), false, "a.txt", "c.txt"), w.Edit(m.who, m.external, "2", "edited twice", order(), false))
			received := w.Edit(m.who, m.external, "3", "edited at some time", order(), true)
			maybe(received, projecttest.Copied(received, func(c *pb.ChannelEvent) {
				c.Parts = nil
				w.Writes(c, m.who, "edited at some time")
			}, order()))
		}
		maybe(w.Reacts("bob", m.external, "+1", "a", order(), false), w.Reacts("bob", m.external, "+1", "b", order(), true),
			w.Reacts("bob", m.external, "+1", "c", order(), false), w.Reacts("cai", m.external, "tada", "a", order(), false))
		maybe(w.Fetched(m.who, m.external, "a.txt", "gone", "", order()),
			w.Fetched(m.who, m.external, "a.txt", "x", "attachments/"+m.external, order()),
			w.Fetched(m.who, m.external, "b.txt", "too_large", "", order()), w.Fetched(m.who, m.external, "b.txt", "gone", "", order()))
	}
	if rapid.Bool().Draw(t, "deleted") {
		maybe(w.Deletes("3", "a", order()), w.Deletes("3", "b", order()))
	}
	for _, external := range []string{"s1", "s2"} {
		e := w.Direct("cai", external, "text "+external, order())
		maybe(e, projecttest.Copied(e, func(c *pb.ChannelEvent) {
			c.Parts = nil
			w.Writes(c, "cai", "text "+external)
			w.Named(c, "cai")
		}, order()))
	}
	maybe(w.Profile("cai", "1", "Cai", order()), w.Profile("cai", "2", "Cai Li", order()), w.Profile("ada", "1", "Ada", order()))
	w.mailStory(maybe, order)
	w.outboundStory(maybe, order)
	w.shopStory(maybe, order)
	return events
}

// shopStory is what people order, and what the shop does about it: states of one second, states that are older than
// what is there already, refunds before their order, and an order that is gone and told of once more.
func (w world) shopStory(maybe func(...*pb.ChannelEvent), order func() int64) {
	for _, who := range []string{"cai", "bob"} {
		at := order()
		maybe(w.Orders(who, "order", "820982911946154508", "", "open", at), w.Orders(who, "order", "820982911946154508", "", "paid", at),
			w.Orders(who, "order", "820982911946154508", "", "closed", order()), w.Orders(who, "order", "9", "", "open", order()),
			w.Orders(who, "order", "9", "", "deleted", order()), w.Orders(who, "checkout", "9", "", "open", order()))
		maybe(w.Orders(who, "refund", "5", "820982911946154508", "pending", order()), w.Orders(who, "refund", "5", "820982911946154508", "success", order()),
			w.Orders(who, "fulfilment", "6", "820982911946154508", "success", order()), w.Orders(who, "fulfilment", "7", "9", "success", order()),
			w.Orders(who, "refund", "8", "404", "success", order()))
	}
}

// mailStory is two threads of one person, the first with a file that came along and an answer from another address of
// theirs, or another person, to a signed address. A mail may come by two ways.
func (w world) mailStory(maybe func(...*pb.ChannelEvent), order func() int64) {
	mail := func(who, external, root string) *pb.ChannelEvent {
		e := w.Direct(who, external, "mail "+external, order())
		e.ConversationKey = channel.ThreadKey(w.People["cai"].ID, projecttest.SMSConnection, root)
		return e
	}
	first, second, answer, another := mail("cai", "m1", "r1"), mail("cai", "m2", "r2"), mail("bob", "m3", "r1"), mail("ada", "m4", "r1")
	first.Parts = nil
	w.Writes(first, "cai", "mail m1", "f.txt")
	w.Named(first, "cai")
	first.Attachments[0] = w.Fetched("cai", "m1", "f.txt", "x", "attachments/m1", 0).Attachments[0]
	first.Attachments[0].Id = channel.AttachmentID(first.MessageId, "f.txt")
	answer.ContactSubject, another.ContactSubject = "", ""
	maybe(first, second, answer, another, projecttest.Copied(first, func(c *pb.ChannelEvent) {
		c.Parts = nil
		c.Attachments = nil
		w.Writes(c, "cai", "mail m1", "f.txt")
		w.Named(c, "cai")
		c.Attachments = first.Attachments
	}, order()))
}

// outboundStory is what happens to messages sent elsewhere (w), and to ours (projecttest.ID(1) in two parts).
func (w world) outboundStory(maybe func(...*pb.ChannelEvent), order func() int64) {
	elsewhere := w.Says("ada", "w", "message", "from the provider's own app", order())
	elsewhere.Direction, elsewhere.AuthorSubject = pb.Direction_DIRECTION_OUTBOUND, ""
	delivered := w.Receipt("w", order(), &pb.Receipt{Status: pb.Status_STATUS_DELIVERED})
	delivered.TargetExternalId = "w"
	failed := w.Receipt("wf", order(), &pb.Receipt{Status: pb.Status_STATUS_FAILED, ErrorClass: pb.ErrorClass_ERROR_CLASS_REJECT, ErrorCode: "30003"})
	failed.TargetExternalId = "w"
	maybe(elsewhere, delivered, failed)

	ours := func(what string, part int32, status pb.Status, external string, sent int64) *pb.ChannelEvent {
		r := &pb.Receipt{MessageId: projecttest.ID(1), Part: part, Attempt: 1, Status: status, ExternalId: external, SentOrderUs: sent}
		return w.Receipt("o"+what+external, order(), r)
	}
	maybe(ours("sending", 0, pb.Status_STATUS_SENDING, "", 0), ours("sent", 0, pb.Status_STATUS_SENT, "o0", projecttest.Base+50_000_000),
		ours("sent1", 1, pb.Status_STATUS_SENT, "o1", projecttest.Base+51_000_000), ours("again", 0, pb.Status_STATUS_SENT, "o0", 0),
		ours("failed", 1, pb.Status_STATUS_FAILED, "", 0))
	byExternal := w.Receipt("ox", order(), &pb.Receipt{Status: pb.Status_STATUS_DELIVERED})
	byExternal.TargetExternalId = "o0"
	through := w.Receipt("through", order(), &pb.Receipt{Status: pb.Status_STATUS_READ, ThroughUs: projecttest.Base + 50_500_000})
	through.ConversationKey = channel.GroupKey(projecttest.SlackConnection, "C1:1")
	echo := w.Says("ada", "o1", "message", "an echo that nobody knew", order())
	echo.Direction, echo.AuthorSubject = pb.Direction_DIRECTION_OUTBOUND, ""
	maybe(byExternal, through, echo, w.Reacts("ada", "o0", "eyes", "a", order(), false), w.Reacts("ada", "o1", "eyes", "b", order(), false))
}

// open begins every telling: people are there, and a member has written to them in two parts.
func (w world) open() {
	w.Feed(w.Says("bob", "0", "message", "first", 500_000))
	text := bytes.Repeat([]byte("word "), 1200)
	w.Posted(channel.GroupKey(projecttest.SlackConnection, "C1:1"), projecttest.ID(1), string(text))
}

// told feeds events and gives all that the API answers then.
func (w world) told(batches ...[]*pb.ChannelEvent) []byte {
	w.Helper()
	w.Empty()
	w.open()
	w.Exec(func(tx *sqldb.Tx) error { // no relay runs: what waits for it would keep the projector from placing
		_, err := tx.ExecContext(context.Background(), "DELETE FROM outbox WHERE position IS NULL")
		return err
	})
	for _, batch := range batches {
		w.Feed(batch...)
	}
	return apitest.Dump(w, w.Routes, projecttest.Workspace)
}

func TestAnyOrderOfArrivalGivesTheSameConversations(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := world{projecttest.New(t, db)}
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			if runs++; db.Dialect() == "postgres" && runs > 25 {
				return // each costs more there, and differs in locks alone
			}
			events := w.story(rt)
			want := w.told(events)
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
			shuffled := append([]*pb.ChannelEvent(nil), events...)
			for range len(events) / 3 {
				shuffled = append(shuffled, events[random.IntN(len(events))])
			}
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			var batches [][]*pb.ChannelEvent
			for len(shuffled) > 0 {
				n := 1 + random.IntN(min(len(shuffled), 9))
				batches, shuffled = append(batches, shuffled[:n]), shuffled[n:]
			}
			if got := w.told(batches...); !bytes.Equal(got, want) {
				for _, batch := range batches {
					for _, e := range batch {
						rt.Logf("%v %s→%s %d %s", e.Type, e.ExternalId, e.TargetExternalId, e.OrderUs-projecttest.Base, e.Id)
					}
					rt.Log("--")
				}
				rt.Fatalf("got:\n%s", diff(want, got))
			}
		})
	})
}

// diff gives the lines that differ.
func diff(want, got []byte) string {
	var out bytes.Buffer
	a, b := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	for i := range max(len(a), len(b)) {
		var x, y []byte
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if !bytes.Equal(x, y) {
			out.WriteString("- " + string(x) + "\n+ " + string(y) + "\n")
		}
	}
	return out.String()
}
