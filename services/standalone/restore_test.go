package standalone

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
)

// TestTheRegistryIsRestoredFromItsOwnBackup: the first that a mesh writes, into a new database, which the
// mesh then starts on.
func TestTheRegistryIsRestoredFromItsOwnBackup(t *testing.T) {
	data := t.TempDir()
	environ := []string{"TRIBUTARY_DATA=" + data, "PORT=0", "TRIBUTARY_LOG_LEVEL=error"}
	var backups []string
	runUntil(t, environ, func() bool {
		backups, _ = filepath.Glob(filepath.Join(data, "privacy", "backups", "*.backup"))
		return len(backups) > 0
	})
	restore := func(args ...string) (code int, output string) {
		var out bytes.Buffer
		code = Command(t.Context(), append([]string{"restore-registry"}, args...), environ, &out, &out)
		return code, out.String()
	}
	code, told := restore(backups[0])
	require.Equal(t, app.ExitFailed, code)
	require.Contains(t, told, "not empty")

	for _, suffix := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.RemoveAll(filepath.Join(data, "privacy", "registry.db"+suffix)))
	}
	whole, err := os.ReadFile(backups[0])
	require.NoError(t, err)
	cut := filepath.Join(t.TempDir(), "cut.backup")
	require.NoError(t, os.WriteFile(cut, whole[:len(whole)-2], 0o600))
	code, _ = restore(cut)
	require.Equal(t, app.ExitFailed, code)
	code, told = restore(backups[0])
	require.Equal(t, app.ExitOK, code, told)

	runUntil(t, environ, func() bool { return true })
}

// runUntil starts the mesh, waits until it is up and for done, and stops it.
func runUntil(t *testing.T, environ []string, done func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	m, err := prepare(environ)
	require.NoError(t, err)
	up, ended := &welcomed{seen: make(chan struct{})}, make(chan error, 1)
	go func() { ended <- m.run(ctx, up, &bytes.Buffer{}) }()
	select {
	case <-up.seen:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	require.Eventually(t, done, 20*time.Second, 20*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}

// welcomed tells when the mesh has said that it is up.
type welcomed struct{ seen chan struct{} }

func (w *welcomed) Write(b []byte) (int, error) {
	close(w.seen)
	return len(b), nil
}
