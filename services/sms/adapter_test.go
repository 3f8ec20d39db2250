package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
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

func vonageKit(tb testing.TB) channeltest.Kit {
	k := kit(tb)
	k.Samples, k.Settings = "testdata/vonage", map[string]string{"provider": "vonage"}
	k.Canaries = []string{"CANARY-sms", "41791234567", "4155550123"}
	k.StandIn = vonageStandIn
	k.Sign = func(r *channel.Request, secret string) {
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set("Authorization", standin.VonageHeader(secret, r.Body, r.ReceivedAt).Get("Authorization"))
	}
	return k
}

func vonageStandIn(t *testing.T) channeltest.StandIn {
	s, a, conn := vonageUp(t)
	s.Keep("1", standin.Media{ContentType: "image/jpeg", Data: []byte("jpeg")})
	revoked := maps.Clone(conn.Credentials)
	revoked["application_id"] = "app-2"
	return channeltest.StandIn{
		Adapter: a, Fail: s.Fail, Revoked: revoked,
		Out: func() *channel.Outgoing {
			own := *conn
			return byVonage(&own, "+41791234567", "")
		},
		Took: func() (took []channeltest.Taken) {
			for _, p := range s.Posts() {
				took = append(took, channeltest.Taken{Text: p.Text, FileURL: p.URL})
			}
			return took
		},
		Media: channel.MediaRef{URL: s.URL + "/v3/media/1", ContentType: "image/jpeg"}, File: []byte("jpeg"),
	}
}

func TestConformance(t *testing.T) {
	t.Run("twilio", func(t *testing.T) { channeltest.Run(t, kit(t)) })
	t.Run("vonage", func(t *testing.T) { channeltest.Run(t, vonageKit(t)) })
}

func FuzzTwilio(f *testing.F) { channeltest.Fuzz(f, kit(f)) }

func FuzzVonage(f *testing.F) { channeltest.Fuzz(f, vonageKit(f)) }
