package ingress_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/secrets"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/ingress"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const keeperURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="

// service is what Build makes, running on a real bus.
type service struct {
	parts   *app.Parts
	metrics http.Handler
	handler http.Handler
	stop    func()
}

func start(t *testing.T, b *bus.Bus, dir string, client *seal.Client) *service {
	t.Helper()
	a, err := accounts.Open(t.Context(), b, accounts.Config{Channel: "courier", KeeperURL: keeperURL, SnapshotDir: dir})
	require.NoError(t, err)
	cfg := ingress.Defaults(dir, byApp.BodyLimit)
	cfg.BreakerPause, cfg.DrainPause = 100*time.Millisecond, 100*time.Millisecond
	tel, err := telemetry.New(telemetry.Config{Service: "courier", LogOutput: io.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Close(context.Background())) })
	_, parts, err := ingress.Build(cfg, &app.Deps{Bus: b, Seal: client, Clock: &clock.Clock{}, Telemetry: tel}, courier{}, byApp, a, nil)
	require.NoError(t, err)
	mux := http.NewServeMux()
	for _, r := range parts.Routes {
		require.True(t, r.Public)
		mux.Handle(r.Pattern, r.Handler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var jobs sync.WaitGroup
	for _, j := range parts.Jobs {
		jobs.Go(func() { _ = j.Run(ctx) })
	}
	s := &service{parts: parts, handler: mux, metrics: tel.MetricsHandler()}
	s.stop = sync.OnceFunc(func() {
		cancel()
		jobs.Wait()
		require.NoError(t, parts.Close())
	})
	t.Cleanup(s.stop)
	return s
}

func (s *service) ready() bool {
	for _, check := range s.parts.Ready {
		if check.Ready() != nil {
			return false
		}
	}
	return true
}

func (s *service) post(t *testing.T, events ...any) int {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, signed(today, "app", body(t, events...)))
	return w.Code
}

func prepare(t *testing.T, b *bus.Bus, registry *sealtest.Registry) {
	t.Helper()
	topics := []bus.Topic{{Name: "inbound.courier"}}
	for _, name := range []string{accounts.AppsTopic, accounts.ConnectionsTopic, ingress.SpoolKeysTopic} {
		topics = append(topics, bus.Topic{Name: name, Compacted: true, Partitions: 1})
	}
	require.NoError(t, b.EnsureTopics(t.Context(), topics...))
	keeper, err := secrets.OpenKeeper(t.Context(), keeperURL)
	require.NoError(t, err)
	defer keeper.Close()
	sealed, err := accounts.Sealed(t.Context(), keeper, &pb.AppSecrets{SigningSecret: today})
	require.NoError(t, err)
	for topic, m := range map[string]proto.Message{
		accounts.AppsTopic:        &pb.App{Id: "app-id", Channel: "courier", Name: "app", SealedSecrets: sealed},
		accounts.ConnectionsTopic: &pb.Connection{Id: "connection-1", WorkspaceId: "workspace-1", Channel: "courier", ExternalId: "a1", AppId: "app-id", Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE},
		ingress.SpoolKeysTopic:    registry.SpoolKey(),
	} {
		value, err := proto.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, b.Publish(t.Context(), bus.Message{Topic: topic, Key: "only", Value: value}))
	}
}

// read gathers what is on the topic until want values of the header ce_id were seen.
func read(t *testing.T, b *bus.Bus, group string, want int) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var mu sync.Mutex
	seen := map[string]int{}
	_ = b.Subscribe(ctx, bus.Subscription{Group: group, Topics: []string{"inbound.courier"}, Handle: func(_ context.Context, batch []bus.Record) error {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range batch {
			e := &pb.ChannelEvent{}
			if err := proto.Unmarshal(r.Value, e); err != nil {
				return err
			}
			if bytes.Contains(r.Value, []byte(canary)) || e.GetConversationKey() != r.Key {
				seen["not sealed, or another key"]++
			}
			seen[e.GetId()]++
		}
		if len(seen) >= want {
			cancel()
		}
		return nil
	}})
	mu.Lock()
	defer mu.Unlock()
	return seen
}

func TestAServiceOnABus(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		client, registry := sealtest.New(t)
		prepare(t, b, registry)
		s := start(t, b, t.TempDir(), client)
		require.Eventually(t, s.ready, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, http.StatusOK, s.post(t, direct("a1", "1"), direct("a1", "2"), direct("unknown", "3")))
		require.Equal(t, http.StatusOK, s.post(t, direct("a1", "1")), "a redelivery")
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, signed(today, "unknown", nil))
		require.Equal(t, http.StatusNotFound, w.Code)
		require.Equal(t, http.StatusOK, s.post(t, direct("a1", "4")))
		seen := read(t, b, "reader", 3)
		require.Len(t, seen, 3)

		w = httptest.NewRecorder()
		s.metrics.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		for _, line := range []string{
			`tributary_webhooks_accepted_total{channel="courier",service="courier"} 3`,
			`tributary_webhooks_refused_total{channel="courier",reason="not_found",service="courier"} 1`,
			`tributary_events_published_total{channel="courier",service="courier",type="message"} 4`,
			`tributary_events_unconnected_total{channel="courier",reason="unknown",service="courier"} 1`,
			`tributary_spool_bytes{channel="courier",part="entries",service="courier"} 0`,
			`tributary_spool_lag_seconds{channel="courier",service="courier"} 0`,
		} {
			require.Contains(t, w.Body.String(), line)
		}
	})
}

func TestTheSpoolKeyOfTheDay(t *testing.T) {
	b := bustest.Embedded(t)
	require.NoError(t, b.EnsureTopics(t.Context(), bus.Topic{Name: ingress.SpoolKeysTopic, Compacted: true, Partitions: 1}))
	keys := ingress.NewSpoolKeyTable(b, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = keys.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	publish := func(id string, from, destroyed time.Time) {
		t.Helper()
		key := &pb.SpoolKey{Id: id, PublicKey: []byte("public"), NotBeforeUs: from.UnixMicro()}
		if !destroyed.IsZero() {
			key.DestroyedAtUs = destroyed.UnixMicro()
		}
		value, err := proto.Marshal(key)
		require.NoError(t, err)
		require.NoError(t, b.Publish(t.Context(), bus.Message{Topic: ingress.SpoolKeysTopic, Key: id, Value: value}))
		within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		require.NoError(t, keys.Confirm(within, time.Now()))
	}
	current := func() string {
		key, _ := keys.Current(noon)
		return key.GetId()
	}
	require.Empty(t, current())
	publish("tomorrow's", noon.Add(12*time.Hour), time.Time{})
	require.Equal(t, "tomorrow's", current(), "better than none")
	publish("today's", noon.Add(-12*time.Hour), time.Time{})
	require.Equal(t, "today's", current())
	publish("yesterday's", noon.Add(-36*time.Hour), noon.Add(8*24*time.Hour))
	require.Equal(t, "today's", current(), "the newest that is to be used")
	publish("today's", noon.Add(-12*time.Hour), noon)
	require.Equal(t, "yesterday's", current(), "never one whose private half is gone")
}

func TestTheBrokerAwayFromTheStartAndBack(t *testing.T) {
	cluster := bustest.EmbeddedCluster(t)
	b := cluster.Open(t)
	client, registry := sealtest.New(t)
	prepare(t, b, registry)
	dir := t.TempDir()
	first := start(t, b, dir, client)
	require.Eventually(t, first.ready, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, first.post(t, direct("a1", "before")))
	require.NoError(t, first.parts.PreStop(t.Context()))
	first.stop()

	var second *service
	cluster.Restart(t, func() {
		second = start(t, b, dir, client)
		require.Eventually(t, second.ready, 30*time.Second, 10*time.Millisecond, "by the last state it kept")
		for _, key := range []string{"1", "2", "3"} {
			require.Equal(t, http.StatusOK, second.post(t, direct("a1", key)))
		}
		require.Equal(t, http.StatusServiceUnavailable, second.post(t, direct("unknown", "4")), "nobody can say that it is not connected")
	})
	seen := read(t, b, "reader", 4)
	require.Len(t, seen, 4, "all that was answered 2xx")
	require.NoError(t, second.parts.PreStop(t.Context()))
	second.stop()
}
