package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
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
		StandIn:  standIn,
	}
}

func standIn(t *testing.T) channeltest.StandIn {
	s, a := twilioUp(t)
	s.Keep("1", standin.Media{ContentType: "image/jpeg", Data: []byte("jpeg")})
	return channeltest.StandIn{
		Adapter: a, Out: func() *channel.Outgoing { return text("+14155550123", "") }, Fail: s.Fail,
		Took: func() (took []channeltest.Taken) {
			for _, p := range s.Posts() {
				took = append(took, channeltest.Taken{Text: p.Body, FileURL: strings.Join(p.MediaURL, " ")})
			}
			return took
		},
		Revoked: map[string]string{"account_sid": "AC1", "auth_token": "revoked"},
		Media:   channel.MediaRef{URL: s.URL + "/media/1", ContentType: "image/jpeg"}, File: []byte("jpeg"),
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

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
