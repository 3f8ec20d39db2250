package ingress_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

var buyer = &channel.Identity{Kind: "email", Value: canary + "@example.com"}

// ordered is an order of the buyer, or, with a parent, what the shop did about it.
func ordered(kind, id, parent string, placed time.Time) channel.Event {
	return channel.Event{
		Type: channel.TypeCommerce, Account: "a1", Key: kind + id, Order: 1_700_000_000_000_000, ActedAt: placed, Author: buyer,
		Commerce: &channel.Commerce{Kind: kind, ID: id, Parent: parent, Total: "0.10", Currency: "CHF", Note: canary,
			Lines: []channel.CommerceLine{{ID: "18446744073709551615", Title: canary, Quantity: 2, Price: "12345678901234567890.10"}}},
	}
}

func TestAnOrderIsSealedForWhoItNames(t *testing.T) {
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, ordered("order", "820982911946154508", "", time.Time{})))
	events := m.Publisher.Events(t)
	require.Len(t, events, 1)
	e := events[0]
	require.Equal(t, "820982911946154508", e.GetCommerce().GetId())
	require.Equal(t, channel.DirectKey(e.GetAuthorSubject(), "connection-1"), e.GetConversationKey())
	require.Empty(t, e.GetContactSubject(), "nobody is written to")
	require.NotContains(t, string(m.Publisher.Messages()[0].Value), canary)

	var told pb.Commerce
	open(t, m, "workspace-1", part(t, e, pb.Category_CATEGORY_COMMERCE),
		seal.OriginCommerce("connection-1", "order", "820982911946154508", e.GetOrderUs()), &told)
	require.Equal(t, "0.10", told.GetTotal())
	require.Equal(t, "12345678901234567890.10", told.GetLines()[0].GetPrice())
	require.Equal(t, "18446744073709551615", told.GetLines()[0].GetId())
}

// Ordering makes somebody known; what the shop does about an order, and what is asked by privacy law, does not.
func TestWhatAShopDoesMakesNobodyKnown(t *testing.T) {
	m := newMesh(t)
	asked := channel.Event{Type: channel.TypePrivacy, Account: "a1", Key: "p", Author: buyer, Reason: "customers/redact"}
	require.Equal(t, http.StatusOK, post(t, m, ordered("refund", "1", "2", time.Time{}), asked))
	require.Empty(t, m.Publisher.Messages())
	require.Zero(t, m.Registry.Subjects())

	require.Equal(t, http.StatusOK, post(t, m, ordered("order", "2", "", time.Time{}), ordered("refund", "1", "2", time.Time{}), asked))
	require.Len(t, m.Publisher.Messages(), 3, "told together they are known together")
	require.Equal(t, 1, m.Registry.Subjects())

	require.Equal(t, http.StatusOK, post(t, m, channel.Event{Type: channel.TypePrivacy, Account: "a1", Key: "s", Reason: "shop/redact"}))
	require.Len(t, m.Publisher.Messages(), 4, "a whole shop's names nobody")
}

// Whoever was erased is not brought back because a shop goes on with an order of theirs.
func TestAnOrderFromBeforeAnErasureBringsNobodyBack(t *testing.T) {
	m := newMesh(t)
	who := m.Known(t, "workspace-1", *buyer)
	m.Registry.Destroy(who.ID)
	made := m.Registry.Subjects()
	require.Equal(t, http.StatusOK, post(t, m, ordered("order", "1", "", time.Now().Add(-time.Hour)), ordered("fulfilment", "2", "1", time.Time{})))
	events := m.Publisher.Events(t)
	require.Len(t, events, 1)
	require.Equal(t, pb.EventType_EVENT_TYPE_ERASED, events[0].GetType())
	require.Empty(t, events[0].GetParts())
	require.Nil(t, events[0].GetCommerce())
	require.Equal(t, made, m.Registry.Subjects())

	require.Equal(t, http.StatusOK, post(t, m, ordered("order", "3", "", time.Now().Add(time.Hour))))
	require.Equal(t, made+1, m.Registry.Subjects(), "who orders again is new")
}

func TestCommerceWithoutAnOrderOfTheShopsIsSetAside(t *testing.T) {
	m := newMesh(t)
	timeless, nameless, nobodys := ordered("order", "1", "", time.Time{}), ordered("order", "", "", time.Time{}), ordered("order", "3", "", time.Time{})
	timeless.Order, nobodys.Author = 0, nil
	require.Equal(t, http.StatusOK, post(t, m, timeless, nameless, nobodys))
	require.ElementsMatch(t, []string{"no_order", "no_commerce", "nobody"}, aside(t, m))
	noCanaryOnDisk(t, m)
}
