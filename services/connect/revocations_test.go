package connect

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// said is what a provider says of a connection.
func said(t testing.TB, connectionID, reason string, order time.Time, received bool) bus.Record {
	t.Helper()
	value, err := proto.Marshal(&pb.ChannelEvent{
		Id: "e", Type: pb.EventType_EVENT_TYPE_REVOCATION, Channel: "sms", ConnectionId: connectionID, Reason: reason,
		OrderUs: order.UnixMicro(), OrderReceived: received,
	})
	require.NoError(t, err)
	return bus.Record{Topic: "revocations", Key: connectionID, Value: value}
}

func (h *house) hear(t testing.TB, batch ...bus.Record) error {
	t.Helper()
	r, err := newRevocations(h.s, telemetry.Discard().Meter)
	require.NoError(t, err)
	return r.handle(h.Context(), batch)
}

func TestRevocations(t *testing.T) {
	each(t, func(h *house) {
		c := h.as(h.other)
		id := c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
		status := func() string { return c.get("/v1/connections/" + id).is(http.StatusOK).object()["status"].(string) }
		now := h.s.now

		require.NoError(h, h.hear(h, said(h, id, "tokens_revoked", now().Add(-time.Hour), false)))
		require.Equal(h, active, status(), "what was said before the credentials were given is about others")

		require.NoError(h, h.hear(h, said(h, id, "invalid_auth", now(), true)))
		require.Equal(h, reauthorise, status())
		health := c.get("/v1/connections/" + id).is(http.StatusOK).object()["health"].(map[string]any)
		require.Equal(h, [2]any{failing, "invalid_auth"}, [2]any{health["status"], health["reason"].(map[string]any)["code"]}, "it is what the provider said last")
		require.NotEmpty(h, h.record(id).GetSealedCredentials())
		require.Equal(h, pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE, h.record(id).GetStatus(), "published when it was handled")

		// In whichever order the two come it is one offboarding.
		uninstalled, revokedTokens := said(h, id, "app_uninstalled", now(), false), said(h, id, "tokens_revoked", now(), false)
		require.NoError(h, h.hear(h, uninstalled))
		require.Equal(h, revoked, status())
		require.Empty(h, h.record(id).GetSealedCredentials())
		at := h.record(id).GetUpdatedAtUs()
		require.NoError(h, h.hear(h, revokedTokens, uninstalled, said(h, id, "invalid_auth", now(), true)))
		require.Equal(h, revoked, status())
		require.Equal(h, at, h.record(id).GetUpdatedAtUs(), "said again it changes nothing")

		h.skew.Add((2 * time.Second).Microseconds())
		require.Equal(h, id, c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusOK).id())
		require.NoError(h, h.hear(h, uninstalled, revokedTokens))
		require.Equal(h, active, status(), "an old revocation, delivered again, does not touch new credentials")

		c.delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.NoError(h, h.hear(h, said(h, id, "tokens_revoked", now().Add(time.Minute), false)))
		require.Equal(h, disabled, status(), "who was disconnected stays so")

		require.NoError(h, h.hear(h, said(h, "nobody", "tokens_revoked", now(), false)), "an unknown connection is counted and let be")
	})
}

func TestRevocationsLeaveOtherEventsAlone(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	value, err := proto.Marshal(&pb.ChannelEvent{Type: pb.EventType_EVENT_TYPE_MESSAGE, ConnectionId: "nobody"})
	require.NoError(t, err)
	require.NoError(t, h.hear(t, bus.Record{Value: value}))
	err = h.hear(t, bus.Record{Value: []byte("not an event")})
	reason, ok := bus.IsDataFault(err)
	require.True(t, ok)
	require.Equal(t, "not_an_event", reason)
}

// Any order and any repetition of what a provider says ends in the same status.
func TestRevocationsCommute(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	number := 0
	rapid.Check(t, func(rt *rapid.T) {
		h.T = t
		events := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) struct {
			reason string
			after  time.Duration
		} {
			return struct {
				reason string
				after  time.Duration
			}{
				rapid.SampledFrom([]string{"invalid_auth", "tokens_revoked", "app_uninstalled"}).Draw(rt, "reason"),
				time.Duration(rapid.Int64Range(-3, 3).Draw(rt, "after")) * time.Minute,
			}
		}), 1, 4).Draw(rt, "events")
		want := active
		for _, e := range events {
			switch {
			case e.after < 0:
			case e.reason != "invalid_auth":
				want = revoked
			case want == active:
				want = reauthorise
			}
		}
		for range 2 {
			number++
			id := h.as(h.other).post("/v1/connections", smsAccount(fmt.Sprintf("+4179%07d", number))).is(http.StatusCreated).id()
			base := time.Now().Add(time.Second)
			var batch []bus.Record
			for _, e := range rapid.Permutation(append(events, events[0])).Draw(rt, "order") {
				batch = append(batch, said(t, id, e.reason, base.Add(e.after), true))
			}
			cut := rapid.IntRange(0, len(batch)).Draw(rt, "cut")
			require.NoError(rt, h.hear(t, batch[:cut]...))
			require.NoError(rt, h.hear(t, batch[cut:]...))
			require.Equal(rt, want, h.as(h.other).get("/v1/connections/" + id).object()["status"])
		}
	})
}
