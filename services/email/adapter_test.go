package email

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("email")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return made(tb, nil) },
		Features: features,
		Sign:     sign,
		Bearer:   func(r *channel.Request) bool { return !isRaw(r) },
		Settings: map[string]string{"trusted_host": "mx.shop.example"},
		Canaries: []string{"CANARY-email", "CANARY-subject", "CANARY-details", "lovelace"},
	}
}

// made is an adapter under test; change is made to its settings.
func made(tb testing.TB, change func(*Config, *Deps)) *Adapter {
	tb.Helper()
	cfg, deps := DefaultConfig(), Deps{HTTP: http.DefaultClient, Secret: []byte("a secret of 32 bytes for tests..")}
	if change != nil {
		change(cfg, &deps)
	}
	require.NoError(tb, cfg.Validate())
	a, err := New(*cfg, deps)
	require.NoError(tb, err)
	return a
}

// sign a raw mail; Postmark repeats the secret.
func sign(r *channel.Request, secret string) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if !isRaw(r) {
		request := http.Request{Header: r.Header}
		request.SetBasicAuth("postmark", secret)
		return
	}
	timestamp, signature := Sign(secret, r.ReceivedAt, r.Body)
	r.Header.Set(TimestampHeader, timestamp)
	r.Header.Set(SignatureHeader, signature)
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
