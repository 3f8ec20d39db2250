package slack

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

const ourApp = "A0KRD7HC3"

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("slack")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			if r.Header == nil {
				r.Header = http.Header{}
			}
			for name, values := range standin.SlackHeader(secret, r.Body, r.ReceivedAt) {
				if name != "Content-Type" {
					r.Header[name] = values
				}
			}
		},
		AppID:    ourApp,
		Canaries: []string{"CANARY-slack", "canary-slack", "CANARY-bot"},
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
