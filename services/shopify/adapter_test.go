package shopify

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("shopify")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header.Set("X-Shopify-Hmac-SHA256", standin.ShopifySignature(secret, r.Body))
		},
		Canaries: []string{"anary", "+41791234567", "+15556251199"},
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
