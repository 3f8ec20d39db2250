package app_test

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
)

// TestReadyAsksTheServiceThatRuns holds the command that a healthcheck runs to what /readyz says.
func TestReadyAsksTheServiceThatRuns(t *testing.T) {
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			status.Store(http.StatusTeapot)
		}
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte("what is not ready"))
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	ask := func(listen string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := app.Process(t.Context(), app.Service{Name: "a"}, []string{"ready"}, []string{"TRIBUTARY_LISTEN=" + listen}, &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, listen := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port} {
		code, _, stderr := ask(listen)
		require.Equal(t, app.ExitOK, code, "%s: %s", listen, stderr)
	}
	status.Store(http.StatusServiceUnavailable)
	code, stdout, stderr := ask(":" + port)
	require.Equal(t, app.ExitFailed, code)
	require.Equal(t, "what is not ready", stdout)
	require.Contains(t, stderr, "a: not ready: 503")
	server.Close()
	code, _, _ = ask(":" + port)
	require.Equal(t, app.ExitFailed, code, "nobody listens")
	code, _, stderr = ask("nowhere")
	require.Equal(t, app.ExitConfig, code)
	require.Contains(t, stderr, "TRIBUTARY_LISTEN")
}
