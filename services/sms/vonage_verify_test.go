package sms

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

const signatureSecret = "CANARY-signature-secret"

var (
	received0 = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	inbound0  = standin.VonageInbound("sms", "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab", "41791234567", "41445550100", "hello", received0)
)

func vonageRequest(header http.Header, body []byte) *channel.Request {
	return &channel.Request{
		URL: &url.URL{Scheme: "https", Host: "mesh.example", Path: "/webhooks/sms/c1"}, Header: header, Body: body,
		ReceivedAt: received0, LocalTime: received0, Settings: map[string]string{"provider": "vonage"},
	}
}

func claims(body []byte, change map[string]any) map[string]any {
	sum := sha256.Sum256(body)
	c := map[string]any{"iat": received0.Unix(), "jti": "1", "iss": "Vonage", "payload_hash": hex.EncodeToString(sum[:]), "api_key": "abcd1234"}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func TestVonagesTokenIsOfTheBodyAndOfNow(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	at := func(d time.Duration) map[string]any { return map[string]any{"iat": received0.Add(d).Unix()} }
	for name, c := range map[string]struct {
		change map[string]any
		ok     bool
	}{
		"as it comes":                     {nil, true},
		"its hash in capitals":            {map[string]any{"payload_hash": strings.ToUpper(claims(inbound0, nil)["payload_hash"].(string))}, true},
		"a retry an hour later":           {at(-time.Hour), true},
		"the last retry":                  {at(-24 * time.Hour), true},
		"a clock that is ahead":           {at(4 * time.Minute), true},
		"fractions of a second":           {map[string]any{"iat": float64(received0.Unix()) + 0.25}, true},
		"good for a while":                {map[string]any{"exp": received0.Add(time.Minute).Unix()}, true},
		"no hash":                         {map[string]any{"payload_hash": nil}, false},
		"an empty hash":                   {map[string]any{"payload_hash": ""}, false},
		"a hash that is a number":         {map[string]any{"payload_hash": 7}, false},
		"the hash of another body":        {claims([]byte("{}"), nil), false},
		"no time":                         {map[string]any{"iat": nil}, false},
		"a time that is text":             {map[string]any{"iat": "today"}, false},
		"two days old":                    {at(-48 * time.Hour), false},
		"from tomorrow":                   {at(24 * time.Hour), false},
		"expired":                         {map[string]any{"exp": received0.Add(-time.Hour).Unix()}, false},
		"not good yet":                    {map[string]any{"nbf": received0.Add(time.Hour).Unix()}, false},
		"a time that is out of all sense": {map[string]any{"iat": 1e300}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := vonageRequest(standin.VonageToken(signatureSecret, claims(inbound0, c.change)), inbound0)
			err := a.Verify(r, channel.Secrets{signatureSecret})
			if c.ok {
				require.NoError(t, err)
				return
			}
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.ClassUnverified, e.Class)
			assert.NotContains(t, err.Error(), "CANARY")
		})
	}
}

func TestEitherClockVouchesForAToken(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	r := vonageRequest(standin.VonageHeader(signatureSecret, inbound0, received0), inbound0)
	r.ReceivedAt = received0.Add(-72 * time.Hour)
	require.NoError(t, a.Verify(r, channel.Secrets{signatureSecret}))
	r.LocalTime = received0.Add(72 * time.Hour)
	require.Error(t, a.Verify(r, channel.Secrets{signatureSecret}))
}

func TestNoOtherAlgorithmIsTaken(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	key, private, _ := keyPair(t)
	with := func(method jwt.SigningMethod, by any) string {
		token, err := jwt.NewWithClaims(method, jwt.MapClaims(claims(inbound0, nil))).SignedString(by)
		require.NoError(t, err)
		return token
	}
	good := strings.Split(with(jwt.SigningMethodHS256, []byte(signatureSecret)), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, authorization := range map[string]string{
		"none":                  "Bearer " + with(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"none, under our own":   "Bearer " + none + "." + good[1] + "." + good[2],
		"no signature":          "Bearer " + good[0] + "." + good[1] + ".",
		"HS512 with the secret": "Bearer " + with(jwt.SigningMethodHS512, []byte(signatureSecret)),
		"HS384 with the secret": "Bearer " + with(jwt.SigningMethodHS384, []byte(signatureSecret)),
		"RS256":                 "Bearer " + with(jwt.SigningMethodRS256, private),
		"another secret":        "Bearer " + with(jwt.SigningMethodHS256, []byte("another")),
		"another scheme":        "Basic " + strings.Join(good, "."),
		"no scheme":             strings.Join(good, "."),
		"two parts":             "Bearer " + good[0] + "." + good[1],
		"empty":                 "Bearer ",
		"nothing":               "",
	} {
		t.Run(name, func(t *testing.T) {
			r := vonageRequest(http.Header{"Authorization": {authorization}}, inbound0)
			assert.Error(t, a.Verify(r, channel.Secrets{signatureSecret, key}))
		})
	}
	r := vonageRequest(http.Header{"Authorization": {"bearer " + strings.Join(good, ".")}}, inbound0)
	assert.NoError(t, a.Verify(r, channel.Secrets{signatureSecret}), "the scheme's case means nothing (RFC 9110, 11.1)")
}

func TestOneProvidersSignatureIsNotTheOthers(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	r := vonageRequest(standin.VonageHeader(signatureSecret, inbound0, received0), inbound0)
	r.Settings = nil
	assert.Error(t, a.Verify(r, channel.Secrets{signatureSecret}), "a connection of Twilio's")
	form := url.Values{"MessageSid": {"SM1"}}
	r = vonageRequest(standin.TwilioHeader(signatureSecret, "https://mesh.example/webhooks/sms/c1", form), []byte(form.Encode()))
	assert.Error(t, a.Verify(r, channel.Secrets{signatureSecret}), "a connection of Vonage's")
}

func TestTheTimeThatVonageSignedIsKept(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	signed := received0.Add(-10 * time.Minute)
	result, err := a.Normalise(vonageRequest(standin.VonageHeader(signatureSecret, inbound0, signed), inbound0))
	require.NoError(t, err)
	assert.Equal(t, signed, result.SignedAt)
	assert.Equal(t, channel.Reply{}, result.Reply, "Vonage reads nothing of it")
	_, err = a.Normalise(vonageRequest(nil, []byte("Body=hello")))
	assert.Error(t, err, "a form is none of Vonage's")
}

func TestTheQueryOfACallbackSaysNothing(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	status := standin.VonageStatus(standin.VonagePost{UUID: "u1", To: "41791234567", From: "41445550100", Channel: "sms"}, "delivered", "", received0)
	r := vonageRequest(standin.VonageHeader(signatureSecret, status, received0), status)
	r.URL.RawQuery = "m=0196b1b2-0000-8000-8000-000000000001&p=0&a=1&k=6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11"
	result, err := a.Normalise(r)
	require.NoError(t, err)
	require.Len(t, result.Events, 1)
	assert.Empty(t, result.Events[0].Receipt.MessageID, "Vonage signs the body alone")
	assert.Empty(t, result.Events[0].Thread.ConversationKey)
}
