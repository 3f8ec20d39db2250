package messenger

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

// ourApp at Meta; page is a connection of it.
const (
	ourApp = "1517776481860111"
	page   = "682498302938465"
	ada    = "7311285728960001"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("messenger")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header["X-Hub-Signature-256"] = standin.GraphHeader(secret, r.Body)["X-Hub-Signature-256"]
		},
		AppID:    ourApp,
		Canaries: []string{"CANARY-messenger", "canary-messenger"},
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
