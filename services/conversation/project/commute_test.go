package project_test

import (
	"bytes"
	"testing"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/store"
)

// Pairs and triples that a drawn set seldom holds, each told in every order and one at a time.
func TestEventsThatMeetSeldomCommuteToo(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := world{projecttest.New(t, db)}
		receipt := w.Receipt("late", 30_000_000, &pb.Receipt{MessageId: projecttest.ID(1), Status: pb.Status_STATUS_DELIVERED, Attempt: 1})
		receipt.OrderReceived, receipt.ContactSubject = true, w.People["cai"].ID
		file := w.Fetched("ada", "4", "a.txt", "gone", "", 20_000_000)
		file.OrderReceived = true
		other := w.Fetched("ada", "4", "a.txt", "too_large", "", 15_000_000)
		direct := w.Direct("cai", "s9", "hello", 40_000_000)
		echo := w.Says("ada", "o0", "message", "an echo that nobody knew", 10_000_000)
		echo.Direction, echo.AuthorSubject = pb.Direction_DIRECTION_OUTBOUND, ""
		delivered := w.Receipt("by external id", 20_000_000, &pb.Receipt{Status: pb.Status_STATUS_DELIVERED})
		delivered.TargetExternalId = "o0"
		sent := w.Receipt("sent", 30_000_000, &pb.Receipt{MessageId: projecttest.ID(1), Attempt: 1, Status: pb.Status_STATUS_SENT, ExternalId: "o0", SentOrderUs: projecttest.Base + 1})
		same := func(*pb.ChannelEvent) {}
		for name, events := range map[string][]*pb.ChannelEvent{
			"two events of one message with orders of their own": {
				w.Says("ada", "1", "message", "hello", 9_000_000_000), w.Says("ada", "1", "app_mention", "hello", 8_000_000_000)},
			"copies of a receipt that names a person":  {receipt, projecttest.Copied(receipt, same, 10_000_000), direct},
			"copies of what became of a file":          {w.Says("ada", "4", "message", "a file", 1_000_000, "a.txt"), file, projecttest.Copied(file, same, 10_000_000), other},
			"a receipt of an echo that turns out ours": {echo, delivered, sent},
			"an edit and a deletion of an echo":        {echo, sent, w.Edit("ada", "o0", "1", "edited", 11_000_000, false), w.Deletes("o0", "1", 12_000_000)},
			"a reply to a message and its deletion": {replying(w.Says("ada", "5", "message", "to bob", 6_000_000), "2"),
				w.Says("bob", "2", "message", "first", 3_000_000), w.Deletes("2", "1", 4_000_000)},
			"states of an order, one of them gone": {w.Orders("cai", "order", "1", "", "open", 9_000_000), w.Orders("cai", "order", "1", "", "deleted", 9_000_000),
				w.Orders("cai", "order", "1", "", "paid", 8_000_000)},
			"a refund, its order, and what made its contact": {w.Orders("cai", "refund", "2", "1", "success", 9_000_000), w.Orders("cai", "order", "1", "", "paid", 8_000_000),
				w.Orders("cai", "refund", "2", "1", "pending", 7_000_000), direct},
			"two deletions": {w.Says("bob", "2", "message", "first", 3_000_000), w.Deletes("2", "1", 4_000_000), w.Deletes("2", "2", 3_500_000)},
		} {
			var want []byte
			permute(events, func(order []*pb.ChannelEvent) {
				var batches [][]*pb.ChannelEvent
				for _, e := range order {
					batches = append(batches, []*pb.ChannelEvent{e})
				}
				got := w.told(batches...)
				if want == nil {
					want = w.told(order) // in one batch
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: the order of arrival shows:\n%s", name, diff(want, got))
				}
				if placed, all := w.Count("outbox WHERE position IS NOT NULL"), w.Count("outbox"); placed != all || all == 0 {
					t.Errorf("%s: %d rows of the outbox have positions, of %d", name, placed, all)
				}
			})
		}
	})
}

func replying(e *pb.ChannelEvent, to string) *pb.ChannelEvent {
	e.ReplyToExternalId = to
	return e
}

// permute calls f with every order of events.
func permute(events []*pb.ChannelEvent, f func([]*pb.ChannelEvent)) {
	var swap func(k int)
	swap = func(k int) {
		if k == len(events) {
			f(events)
			return
		}
		for i := k; i < len(events); i++ {
			events[k], events[i] = events[i], events[k]
			swap(k + 1)
			events[k], events[i] = events[i], events[k]
		}
	}
	swap(0)
}
