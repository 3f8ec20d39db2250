package shopify

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// Two changes of one second that are as far on are told apart by when Shopify told of them, whichever comes first; a poll
// that asks later has the second's last.
func TestStatesOfOneSecondAreToldApart(t *testing.T) {
	at := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	told := func(after time.Duration) channel.Event {
		body := []byte(`{"id":1,"email":"a@b.ch","updated_at":"2026-03-14T15:00:00Z","financial_status":"paid"}`)
		result, err := kit(t).New().Normalise(&channel.Request{Header: standin.ShopifyHeader("s", shop, "orders/updated", "1", at.Add(after), body), Body: body})
		require.NoError(t, err)
		require.Len(t, result.Events, 1)
		return result.Events[0]
	}
	first, second := told(300*time.Millisecond), told(700*time.Millisecond)
	require.Less(t, first.Order, second.Order)
	require.NotEqual(t, first.Key, second.Key)
	require.Equal(t, first.Key, told(300*time.Millisecond).Key, "a retry is the same")
	late := told(time.Minute)
	require.Less(t, second.Order, late.Order)
	require.Equal(t, late.Key, told(time.Hour).Key, "nothing more can happen in a second that is over")

	polled := func(after time.Duration) int64 {
		n := normaliser{polled: at.Add(after)}
		return at.UnixMicro() + n.seen(at.UnixMicro())
	}
	require.Equal(t, at.UnixMicro(), polled(time.Second), "clocks differ: it may not be over there")
	require.Equal(t, at.UnixMicro()+moments-1, polled(time.Minute))
}
