package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("sms")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign:     sign,
		Canaries: []string{"CANARY-sms", "CANARY CITY", "4155550123"},
	}
}

// sign as Twilio does: a form with its parameters, anything else with its hash in the URL.
func sign(r *channel.Request, secret string) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if !r.URL.Query().Has("bodySHA256") {
		form, _ := url.ParseQuery(string(r.Body))
		r.Header.Set("X-Twilio-Signature", standin.TwilioHeader(secret, r.URL.String(), form).Get("X-Twilio-Signature"))
		return
	}
	sum := sha256.Sum256(r.Body)
	r.URL.RawQuery = "bodySHA256=" + hex.EncodeToString(sum[:])
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(r.URL.String()))
	r.Header.Set("X-Twilio-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func vonageKit(tb testing.TB) channeltest.Kit {
	k := kit(tb)
	k.Samples, k.Settings = "testdata/vonage", map[string]string{"provider": "vonage"}
	k.Canaries = []string{"CANARY-sms", "41791234567", "4155550123"}
	k.Sign = func(r *channel.Request, secret string) {
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set("Authorization", standin.VonageHeader(secret, r.Body, r.ReceivedAt).Get("Authorization"))
	}
	return k
}

func TestConformance(t *testing.T) {
	t.Run("twilio", func(t *testing.T) { channeltest.Run(t, kit(t)) })
	t.Run("vonage", func(t *testing.T) { channeltest.Run(t, vonageKit(t)) })
}

func FuzzTwilio(f *testing.F) { channeltest.Fuzz(f, kit(f)) }

func FuzzVonage(f *testing.F) { channeltest.Fuzz(f, vonageKit(f)) }
