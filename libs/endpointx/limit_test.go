package endpointx

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWorkspacesAreForgottenBeforeThereAreTooMany(t *testing.T) {
	t.Run("those at rest alone, where that helps", func(t *testing.T) {
		l := newWorkspaceLimit(1e-9)
		busy := l.bucket("busy")
		require.True(t, busy.Allow())
		for i := range 2 * maxBuckets {
			l.bucket(strconv.Itoa(i))
			require.LessOrEqual(t, len(l.buckets), maxBuckets)
		}
		require.Same(t, busy, l.bucket("busy"))
	})
	t.Run("any, where all are in use", func(t *testing.T) {
		l := newWorkspaceLimit(1e-9)
		for i := range 2 * maxBuckets {
			require.True(t, l.bucket(strconv.Itoa(i)).Allow())
			require.LessOrEqual(t, len(l.buckets), maxBuckets)
		}
	})
}
