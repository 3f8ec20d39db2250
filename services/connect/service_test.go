package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/sqldb/sqltest"
)

// mesh runs the service as a process does.
type mesh struct {
	*testing.T
	url, key string
	platform *app.Platform
	stop     func()
}

func start(t *testing.T, c *bustest.Cluster, common app.Common) *mesh {
	t.Helper()
	common.Listen, common.KeeperURL, common.LogLevel = "127.0.0.1:0", keeperURL, "error"
	common.Kafka = app.KafkaSettings{Brokers: c.Addrs, Prefix: c.Prefix, Partitions: 2}
	p, err := app.Open(t.Context(), "connect", common)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	addr, done := make(chan net.Addr, 1), make(chan error, 1)
	p.Started = func(a net.Addr) { addr <- a }
	settings := Service.Config().(*Config)
	nobodyAnswers(settings)
	go func() { done <- p.Run(ctx, app.Unit{Service: Service, Settings: settings}) }()
	m := &mesh{T: t, platform: p, stop: func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close(context.Background()))
	}}
	select {
	case a := <-addr:
		m.url = "http://" + a.String()
	case err := <-done:
		t.Fatalf("did not start: %v", err)
	}
	bustest.Eventually(t, "ready", func() bool {
		resp, err := http.Get(m.url + "/readyz")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	m.key = strings.TrimSpace(readFile(t, filepath.Join(common.Data, KeyFile)))
	return m
}

func (m *mesh) call(method, path, key string, body any) (int, map[string]any) {
	m.Helper()
	var raw []byte
	if body != nil {
		var err error
		raw, err = json.Marshal(body)
		require.NoError(m, err)
	}
	req, err := http.NewRequestWithContext(m.Context(), method, m.url+path, bytes.NewReader(raw))
	require.NoError(m, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(m, err)
	defer resp.Body.Close()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, answer
}

func TestTheServiceAsAProcess(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		common := app.Defaults()
		common.Data = t.TempDir()
		if strings.HasSuffix(t.Name(), "/kafka") {
			common.DatabaseURL = sqltest.PostgresURL(t) // both real parts together
		}
		m := start(t, c, common)

		// The owner key in the data folder opens the API; a key made with it works at once, and not after it
		// was revoked.
		status, k := m.call(http.MethodPost, "/v1/keys", m.key, map[string]any{"name": "bot", "role": "agent"})
		require.Equal(t, http.StatusCreated, status)
		fresh := k["key"].(string)
		status, _ = m.call(http.MethodGet, "/v1/connections", fresh, nil)
		require.Equal(t, http.StatusOK, status)
		status, _ = m.call(http.MethodGet, "/v1/keys", fresh, nil)
		require.Equal(t, http.StatusForbidden, status)
		status, _ = m.call(http.MethodDelete, "/v1/keys/"+k["id"].(string), m.key, nil)
		require.Equal(t, http.StatusNoContent, status)
		bustest.Eventually(t, "the revocation is heard", func() bool {
			status, _ := m.call(http.MethodGet, "/v1/connections", fresh, nil)
			return status == http.StatusUnauthorized
		})

		status, made := m.call(http.MethodPost, "/v1/connections", m.key, smsAccount("+41791234567"))
		require.Equal(t, http.StatusCreated, status)
		id := made["id"].(string)

		// A provider's word on the inbound topic takes the credentials out.
		rec := said(t, id, "tokens_revoked", time.Now().Add(time.Minute), false)
		require.NoError(t, m.platform.Bus.Publish(t.Context(), bus.Message{Topic: rec.Topic, Key: rec.Key, Value: rec.Value, Headers: rec.Headers}))
		bustest.Eventually(t, "the connection is revoked", func() bool {
			_, c := m.call(http.MethodGet, "/v1/connections/"+id, m.key, nil)
			return c["status"] == revoked
		})

		// Started again, all is there, and what the first start made is made once.
		m.stop()
		m = start(t, c, common)
		defer m.stop()
		status, list := m.call(http.MethodGet, "/v1/connections", m.key, nil)
		require.Equal(t, http.StatusOK, status)
		require.Len(t, list["items"], 1)
	})
}

func TestConfigurationFaults(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := app.Process(t.Context(), Service, nil, []string{"TRIBUTARY_CONNECT_RECONCILE_EVERY=0s"}, &stdout, &stderr)
	require.Equal(t, app.ExitConfig, code)
	require.Contains(t, stderr.String(), "TRIBUTARY_CONNECT_RECONCILE_EVERY:")
	require.Contains(t, stderr.String(), "TRIBUTARY_KEEPER_URL: is required")
}
