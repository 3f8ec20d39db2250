package standalone

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
)

// TestTheDocumentsOfAllServicesGoTogether: one process serves them as one, or does not start.
func TestTheDocumentsOfAllServicesGoTogether(t *testing.T) {
	var parts [][]byte
	for _, s := range services() {
		text, err := os.ReadFile(filepath.Join("..", s.Name, "openapi.yaml"))
		if !os.IsNotExist(err) { // a channel has no API of its own
			require.NoError(t, err)
			parts = append(parts, text)
		}
	}
	all, err := app.Document(parts)
	require.NoError(t, err)
	for _, path := range []string{"/v1/connections:", "/v1/conversations:", "/v1/privacy/requests:"} {
		require.Contains(t, string(all), path)
	}
}
