package connect

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

// table reads a topic as it is now.
func (h *house) table(topic string) map[string][]byte {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	t := bus.NewTable(h.bus, bus.TableConfig[[]byte]{Topic: topic, Decode: func(b []byte) ([]byte, error) { return append([]byte{}, b...), nil }})
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx) }()
	defer func() { cancel(); <-done }()
	require.NoError(h, t.WaitReady(ctx))
	entries := map[string][]byte{}
	t.All(func(key string, value []byte) bool { entries[key] = value; return true })
	return entries
}

func (h *house) published(topic, key string) bool {
	h.Helper()
	_, ok := h.table(topic)[key]
	return ok
}

func (h *house) accessKey(id string) *pb.AccessKey {
	h.Helper()
	h.s.relay.flush(h.Context())
	k := &pb.AccessKey{}
	require.NoError(h, proto.Unmarshal(h.table(access.Topic().Name)[id], k))
	require.Equal(h, id, k.GetId(), "the key is on the topic")
	return k
}

func (h *house) record(id string) *pb.Connection {
	h.Helper()
	c := &pb.Connection{}
	require.NoError(h, proto.Unmarshal(h.table(accounts.ConnectionsTopic)[id], c))
	return c
}

// adapter is what an adapter of a channel knows now.
func (h *house) adapter(name string, ask func(ctx context.Context, a *accounts.Accounts)) {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	a, err := accounts.Open(ctx, h.bus, accounts.Config{Channel: name, KeeperURL: keeperURL, SnapshotDir: h.TempDir()})
	require.NoError(h, err)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() { cancel(); <-done; require.NoError(h, a.Close()) }()
	require.Eventually(h, a.Ready, 20*time.Second, 10*time.Millisecond)
	ask(ctx, a)
}

func (h *house) openedApp(name string) (opened accounts.App) {
	h.Helper()
	h.adapter("slack", func(_ context.Context, a *accounts.Accounts) {
		var ok bool
		opened, ok = a.App(name)
		require.True(h, ok)
	})
	return opened
}

func (h *house) opened(id string) (opened *channel.Connection) {
	h.Helper()
	h.adapter("sms", func(ctx context.Context, a *accounts.Accounts) {
		c, ok := a.Connection(id)
		require.True(h, ok)
		var err error
		opened, err = a.Opened(ctx, c)
		require.NoError(h, err)
	})
	return opened
}

// requireNoSecrets looks through everything that was stored and published.
func (h *house) requireNoSecrets(canary string) {
	h.Helper()
	for _, topic := range []string{access.Topic().Name, accounts.AppsTopic, accounts.ConnectionsTopic} {
		for key, value := range h.table(topic) {
			require.NotContains(h, string(value), canary, key)
		}
	}
	require.NoError(h, h.s.db.View(h.Context(), func(tx *sqldb.Tx) error {
		for _, query := range []string{`SELECT sealed_credentials FROM connections`, `SELECT sealed_secrets FROM apps`, `SELECT body_hmac FROM idempotency`, `SELECT settings FROM connections`} {
			if err := sqldb.Query(h.Context(), tx, query, nil, func(row sqldb.Row) error {
				var value []byte
				err := row.Scan(&value)
				require.False(h, strings.Contains(string(value), canary))
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (h *house) openedSlack(id string) (credentials map[string]string) {
	h.Helper()
	h.adapter("slack", func(ctx context.Context, a *accounts.Accounts) {
		c, ok := a.Connection(id)
		require.True(h, ok)
		opened, err := a.Opened(ctx, c)
		require.NoError(h, err)
		credentials = opened.Credentials
	})
	return credentials
}
