package ingress_test

import (
	"bytes"
	"context"
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
	handler http.Handler
	stop    func()
}

func start(t *testing.T, b *bus.Bus, dir string, client *seal.Client) *service {
	t.Helper()
	a, err := accounts.Open(t.Context(), b, accounts.Config{Channel: "courier", KeeperURL: keeperURL, SnapshotDir: dir})
	require.NoError(t, err)
	cfg := ingress.Defaults(dir, byApp.BodyLimit)
	cfg.BreakerPause, cfg.DrainPause = 100*time.Millisecond, 100*time.Millisecond
	parts, err := ingress.Build(cfg, &app.Deps{Bus: b, Seal: client, Clock: &clock.Clock{}, Telemetry: telemetry.Discard()}, courier{}, byApp, a)
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
	s := &service{parts: parts, handler: mux}
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
	})
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
