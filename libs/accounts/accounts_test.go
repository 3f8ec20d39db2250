package accounts_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/secrets"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const keeperURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="

const canary = "xoxb-canary-token"

type world struct {
	t      *testing.T
	bus    *bus.Bus
	keeper *secrets.Keeper
}

func newWorld(t *testing.T, b *bus.Bus) *world {
	keeper, err := secrets.OpenKeeper(t.Context(), keeperURL)
	require.NoError(t, err)
	t.Cleanup(func() { keeper.Close() })
	require.NoError(t, b.EnsureTopics(t.Context(),
		bus.Topic{Name: accounts.AppsTopic, Compacted: true, Partitions: 1},
		bus.Topic{Name: accounts.ConnectionsTopic, Compacted: true, Partitions: 2}))
	return &world{t, b, keeper}
}

func (w *world) publish(topic, key string, m proto.Message) {
	w.t.Helper()
	var value []byte
	if m != nil {
		var err error
		value, err = proto.Marshal(m)
		require.NoError(w.t, err)
	}
	require.NoError(w.t, w.bus.Publish(w.t.Context(), bus.Message{Topic: topic, Key: key, Value: value}))
}

func (w *world) sealed(m proto.Message) []byte {
	w.t.Helper()
	sealed, err := accounts.Sealed(w.t.Context(), w.keeper, m)
	require.NoError(w.t, err)
	return sealed
}

func (w *world) connection(id, external string, status pb.ConnectionStatus, token string) {
	w.t.Helper()
	c := &pb.Connection{Id: id, WorkspaceId: "w", Channel: "slack", ExternalId: external, Status: status, AppId: "app-id", Settings: map[string]string{"s": "1"}}
	if token != "" {
		c.SealedCredentials = w.sealed(&pb.ConnectionCredentials{Values: map[string]string{"bot_token": token}})
	}
	w.publish(accounts.ConnectionsTopic, id, c)
}

func (w *world) accounts(dir string) *accounts.Accounts {
	w.t.Helper()
	a, err := accounts.Open(w.t.Context(), w.bus, accounts.Config{Channel: "slack", KeeperURL: keeperURL, SnapshotDir: dir})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { a.Close() })
	return a
}

// run runs a until stop is called, or the test ends.
func (w *world) run(a *accounts.Accounts) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

func (w *world) confirm(a *accounts.Accounts) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(w.t, a.Confirm(ctx, time.Now()))
}

const (
	active   = pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
	disabled = pb.ConnectionStatus_CONNECTION_STATUS_DISABLED
)

func TestAppsAndConnectionsOfOneChannel(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		w := newWorld(t, b)
		w.publish(accounts.AppsTopic, "slack/main", &pb.App{Id: "app-id", Channel: "slack", Name: "main", ExternalId: "A1",
			SealedSecrets: w.sealed(&pb.AppSecrets{ClientSecret: "cs", SigningSecret: "new", PreviousSigningSecret: "old"})})
		w.publish(accounts.AppsTopic, "messenger/main", &pb.App{Id: "other", Channel: "messenger", Name: "other"})
		w.connection("c1", "T1", active, canary)
		w.publish(accounts.ConnectionsTopic, "m1", &pb.Connection{Id: "m1", Channel: "messenger", ExternalId: "P1"})

		a := w.accounts(t.TempDir())
		require.False(t, a.Ready())
		w.run(a)
		w.confirm(a)
		require.True(t, a.Ready())

		app, ok := a.App("main")
		require.True(t, ok)
		require.Equal(t, channel.Secrets{"new", "old"}, app.SigningSecrets)
		require.Equal(t, "cs", app.ClientSecret)
		_, ok = a.App("other")
		require.False(t, ok, "another channel's")
		_, ok = a.Connection("m1")
		require.False(t, ok)
		_, ok = a.ByAccount("P1")
		require.False(t, ok)

		c, ok := a.ByAccount("T1")
		require.True(t, ok)
		opened, err := a.Opened(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, &channel.Connection{
			ID: "c1", WorkspaceID: "w", Channel: "slack", ExternalID: "T1", AppExternalID: "A1", AppSecret: "cs",
			Settings: map[string]string{"s": "1"}, Credentials: map[string]string{"bot_token": canary},
		}, opened)

		w.connection("c1", "T1", active, "rotated")
		w.confirm(a)
		c, _ = a.Connection("c1")
		opened, err = a.Opened(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "rotated", opened.Credentials["bot_token"])

		w.connection("c1", "T1", disabled, "")
		w.confirm(a)
		c, ok = a.ByAccount("T1")
		require.True(t, ok, "a disconnected one stays")
		require.Equal(t, disabled, c.GetStatus())
		_, err = a.Opened(t.Context(), c)
		require.ErrorIs(t, err, accounts.ErrNoCredentials)

		w.connection("c2", "T1", active, "second")
		w.confirm(a)
		c, _ = a.ByAccount("T1")
		require.Equal(t, "c2", c.GetId(), "of two of one account the one that is not disabled")
		w.publish(accounts.ConnectionsTopic, "c2", nil)
		w.publish(accounts.AppsTopic, "slack/main", nil)
		w.confirm(a)
		_, ok = a.Connection("c2")
		require.False(t, ok)
		_, ok = a.App("main")
		require.False(t, ok)
	})
}

func TestWhatAPersonGrantedIsFound(t *testing.T) {
	w := newWorld(t, bustest.Embedded(t))
	for id, grantor := range map[string]string{"c1": "g", "c2": "", "c3": "g", "c4": "another"} {
		w.publish(accounts.ConnectionsTopic, id, &pb.Connection{Id: id, Channel: "slack", ExternalId: "T" + id, Grantor: grantor})
	}
	a := w.accounts(t.TempDir())
	w.run(a)
	w.confirm(a)
	var ids []string
	for _, c := range a.GrantedBy("g") {
		ids = append(ids, c.GetId())
	}
	require.ElementsMatch(t, []string{"c1", "c3"}, ids)
	require.Empty(t, a.GrantedBy(""), "nobody is not everybody whom no provider tells of")
}

func TestAStartWhileTheBrokerIsAway(t *testing.T) {
	cluster := bustest.EmbeddedCluster(t)
	w := newWorld(t, cluster.Open(t))
	w.publish(accounts.AppsTopic, "slack/main", &pb.App{Id: "app-id", Channel: "slack", Name: "main", SealedSecrets: w.sealed(&pb.AppSecrets{SigningSecret: "new"})})
	w.connection("c1", "T1", active, canary)
	dir := t.TempDir()
	first := w.accounts(dir)
	stop := w.run(first)
	w.confirm(first)
	stop()

	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		require.False(t, strings.Contains(string(content), canary), "credentials stay sealed in %s", f.Name())
	}

	cluster.Restart(t, func() {
		second := w.accounts(dir)
		w.run(second)
		require.Eventually(t, second.Ready, 30*time.Second, 20*time.Millisecond)
		app, ok := second.App("main")
		require.True(t, ok)
		require.Equal(t, channel.Secrets{"new"}, app.SigningSecrets)
		c, ok := second.ByAccount("T1")
		require.True(t, ok)
		opened, err := second.Opened(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, canary, opened.Credentials["bot_token"])
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.Error(t, second.Confirm(ctx, time.Now()), "nobody can say that this is all")
	})
}

func TestFaultsTellNoSecret(t *testing.T) {
	_, err := accounts.Open(t.Context(), nil, accounts.Config{})
	for _, setting := range []string{"Channel", "KeeperURL", "SnapshotDir"} {
		require.ErrorContains(t, err, setting)
	}
	_, err = accounts.Open(t.Context(), nil, accounts.Config{Channel: "slack", KeeperURL: "base64key://" + canary, SnapshotDir: t.TempDir()})
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)
}
