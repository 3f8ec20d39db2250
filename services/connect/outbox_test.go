package connect

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
)

func (h *house) marks() (n int) {
	h.Helper()
	require.NoError(h, h.s.db.View(h.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(h.Context(), `SELECT count(*) FROM outbox`).Scan(&n)
	}))
	return n
}

// runs a job until the test ends, or stop is called.
func (h *house) runs(job func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan error, 1)
	go func() { done <- job(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			h.Error(err)
		}
	}
}

func TestAChangeIsAnsweredWhileTheBrokersAreAwayAndPublishedLater(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		c := bustest.EmbeddedCluster(t)
		h := newHouse(t, db, c.Open(t))
		var id string
		c.Restart(t, func() {
			began := time.Now()
			id = h.as(h.other).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
			require.Less(t, time.Since(began), 8*time.Second)
			require.Equal(t, 1, h.marks())
		})
		bustest.Eventually(t, "the relay publishes it", func() bool {
			_, err := h.s.relay.publishMarked(t.Context())
			return err == nil && h.marks() == 0
		})
		require.Equal(t, h.other.WorkspaceID, h.record(id).GetWorkspaceId())
	})
}

func TestAZombieThatPublishedAnOlderStateLastIsOutdone(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, bustest.Embedded(t))
		id := h.as(h.other).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()

		// The zombie has read a state ...
		var stale []marked
		require.NoError(t, db.Tx(t.Context(), func(tx *sqldb.Tx) error {
			if err := mark(t.Context(), tx, connectionEntry(id)); err != nil {
				return err
			}
			var err error
			stale, err = readMarked(t.Context(), tx)
			return err
		}))
		// ... another changes and publishes the next ...
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.Zero(t, h.marks())
		// ... and now the zombie's state lands.
		require.NoError(t, h.bus.Publish(t.Context(), bus.Message{Topic: stale[0].topic, Key: stale[0].key, Value: stale[0].value}))
		require.NotEmpty(t, h.record(id).GetSealedCredentials())
		require.NoError(t, db.Tx(t.Context(), func(tx *sqldb.Tx) error { return unmark(t.Context(), tx, stale[0]) }))

		h.s.relay.flush(t.Context())
		require.Empty(t, h.record(id).GetSealedCredentials(), "the newest state is the last")
		require.Zero(t, h.marks())
	})
}

func TestTopicsThatLackEntriesGetThemAgain(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, bustest.Embedded(t))
		connectionID := h.as(h.other).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
		h.as(h.other).post("/v1/apps", slackApp("kept")).is(http.StatusCreated)
		deleted := h.as(h.other).post("/v1/apps", slackApp("deleted")).is(http.StatusCreated).id()
		h.as(h.other).delete("/v1/apps/" + deleted).is(http.StatusNoContent)

		// The database stands beside other brokers now, on which the topics hold less, more and otherwise.
		empty := bustest.Embedded(t)
		h.bus = empty
		require.NoError(t, empty.EnsureTopics(t.Context(), append(accounts.Topics(), access.Topic())...))
		require.NoError(t, empty.Publish(t.Context(),
			bus.Message{Topic: accounts.AppsTopic, Key: "slack/deleted", Value: []byte{}},
			bus.Message{Topic: accounts.AppsTopic, Key: "slack/deleted", Value: []byte("\x0a\x01x")},
			bus.Message{Topic: accounts.ConnectionsTopic, Key: connectionID, Value: []byte("\x0a\x01y")},
			bus.Message{Topic: accounts.ConnectionsTopic, Key: "unknown", Value: []byte("\x0a\x01z")},
		))
		h.s.relay = newRelay(db, empty, &clock.Clock{}, telemetry.Discard().Log)
		r, err := newReconciler(db, empty, h.s.relay, 20*time.Millisecond, telemetry.Discard().Meter)
		require.NoError(t, err)
		defer h.runs(r.run)()

		bustest.Eventually(t, "every entry is as in the database", func() bool {
			apps, connections, keys := h.table(accounts.AppsTopic), h.table(accounts.ConnectionsTopic), h.table(access.Topic().Name)
			_, kept := apps["slack/kept"]
			_, gone := apps["slack/deleted"]
			return kept && !gone && len(connections[connectionID]) > 10 && len(keys) == 2
		})
		require.True(t, h.published(accounts.ConnectionsTopic, "unknown"), "what the database does not know is left alone")
		require.Equal(t, h.other.WorkspaceID, h.record(connectionID).GetWorkspaceId())
	})
}
