package ingress_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/ingress/ingresstest"
)

// fetching is a courier that also fetches.
type fetching struct {
	courier
	channel.Fetcher
}

func newFetchingMesh(t *testing.T) *ingresstest.Mesh {
	return connected(ingresstest.New(t, fetching{}, byApp, nil))
}

// plain is a direct message that names no file.
func plain(key string) channel.Event {
	e := direct("a1", key)
	e.Content = &channel.Content{Text: "hello"}
	return e
}

// The fetcher reads what names files, and one event in a while of each person: not all that comes in.
func TestTheFetcherIsToldOfFilesAndOfNewPersons(t *testing.T) {
	m := newFetchingMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, plain("1")))
	require.Equal(t, http.StatusOK, post(t, m, plain("2")))
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "3")))
	other := plain("4")
	other.Author = &channel.Identity{Kind: "courier_user", Value: "another"}
	other.Contact = other.Author
	require.Equal(t, http.StatusOK, post(t, m, other))
	require.Equal(t, http.StatusOK, post(t, m, channel.Event{Type: channel.TypeDeletion, Account: "a1", Key: "5", Target: "m-1"}))

	events := m.Publisher.Messages()
	require.Len(t, events, 5)
	copies := m.Publisher.On("fetch.courier")
	require.Len(t, copies, 3)
	for i, of := range []int{0, 2, 3} {
		copies[i].Topic = "inbound.courier"
		require.Equal(t, events[of], copies[i], "a copy, key and headers too")
	}
}

func TestTheFetcherIsToldWhateverWayAnEventTook(t *testing.T) {
	m := newFetchingMesh(t)
	m.Publisher.SetAway(true)
	require.Equal(t, http.StatusOK, post(t, m, plain("1")))
	m.Publisher.SetAway(false)
	require.NoError(t, m.Flush(t.Context()))
	require.Equal(t, http.StatusOK, post(t, m, plain("2")), "the breaker is open: by the spool too")
	require.NoError(t, m.Flush(t.Context()))
	require.Len(t, m.Publisher.Messages(), 2)
	require.Len(t, m.Publisher.On("fetch.courier"), 1, "a person counts as told of once that was published, and not when it failed")
}

func TestNothingIsToldToAFetcherThatIsNotThere(t *testing.T) {
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	require.Len(t, m.Publisher.Messages(), 1)
	require.Empty(t, m.Publisher.On("fetch.courier"))
}

func TestRevocationsAreCopiedForTheConnectService(t *testing.T) {
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1"), channel.Event{Type: channel.TypeRevocation, Account: "a1", Key: "2", Reason: "tokens_revoked"}))
	copies := m.Publisher.On("revocations")
	require.Len(t, copies, 1)
	require.Equal(t, "connection-1", copies[0].Key)
	require.Equal(t, m.Publisher.Messages()[1].Value, copies[0].Value)
}
