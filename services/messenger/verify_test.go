package messenger

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// The signature as any tool makes it: openssl dgst -sha256 -hmac 'app-secret'.
func TestVerifyAKnownSignature(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	signed := func(signature string) error {
		return a.Verify(&channel.Request{
			Header: http.Header{"X-Hub-Signature-256": {signature}, "X-Hub-Signature": {"sha1=0000"}}, Body: []byte(`{"object":"page"}`),
		}, channel.Secrets{"app-secret"})
	}
	const hexed = "ae958d6f00b134dd32b95a9a76bedaaeb068c0949769358355023f7d1a0c580b"
	require.NoError(t, signed("sha256="+hexed))
	for _, not := range []string{"", hexed, "sha1=" + hexed, "sha256=", "sha256=" + hexed[:62], "sha256=" + hexed + "00", "sha256=zz" + hexed[2:]} {
		var e *channel.Error
		require.ErrorAs(t, signed(not), &e, not)
		assert.Equal(t, channel.ClassUnverified, e.Class)
	}
}

func TestTheSHA1HeaderAloneIsNoSignature(t *testing.T) {
	body := []byte(`{"object":"page"}`)
	header := standin.GraphHeader("app-secret", body)
	header["X-Hub-Signature"] = header["X-Hub-Signature-256"]
	delete(header, "X-Hub-Signature-256")
	require.Error(t, New(*DefaultConfig(), http.DefaultClient).Verify(&channel.Request{Header: header, Body: body}, channel.Secrets{"app-secret"}))
}

func handshake(method, verifyToken, query string) (channel.Reply, bool, error) {
	return New(*DefaultConfig(), http.DefaultClient).Challenge(&channel.Request{
		Method: method, URL: &url.URL{Path: "/webhooks/messenger/meta", RawQuery: query}, VerifyToken: verifyToken,
	}, channel.Secrets{"secret"})
}

func TestTheHandshakeIsAnsweredToWhoKnowsTheToken(t *testing.T) {
	reply, ok, err := handshake(http.MethodGet, "let me in", "hub.mode=subscribe&hub.verify_token=let%20me%20in&hub.challenge=1158201444")
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, channel.Reply{Status: 200, ContentType: "text/plain; charset=utf-8", Body: []byte("1158201444")}, reply)
	for name, c := range map[string]struct{ token, query string }{
		"another token":        {"let me in", "hub.mode=subscribe&hub.verify_token=let%20me&hub.challenge=1"},
		"no token":             {"let me in", "hub.mode=subscribe&hub.challenge=1"},
		"none known":           {"", "hub.mode=subscribe&hub.verify_token=&hub.challenge=1"},
		"another mode":         {"t", "hub.mode=unsubscribe&hub.verify_token=t&hub.challenge=1"},
		"no mode":              {"t", "hub.verify_token=t&hub.challenge=1"},
		"no challenge":         {"t", "hub.mode=subscribe&hub.verify_token=t"},
		"a challenge too long": {"t", "hub.mode=subscribe&hub.verify_token=t&hub.challenge=" + string(make([]byte, 257))},
	} {
		t.Run(name, func(t *testing.T) {
			reply, ok, err := handshake(http.MethodGet, c.token, c.query)
			assert.False(t, ok)
			assert.Empty(t, reply)
			if err != nil {
				assert.NotContains(t, err.Error(), "let me in")
			}
		})
	}
	_, ok, err = handshake(http.MethodPost, "t", "hub.mode=subscribe&hub.verify_token=t&hub.challenge=1")
	assert.False(t, ok, "a POST is a webhook, whatever its address says")
	assert.NoError(t, err)
}

func TestConfigNamesTheSetting(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := (&Config{GraphURL: "graph.facebook.com", GraphVersion: "latest/me"}).Validate()
	assert.ErrorContains(t, err, "TRIBUTARY_MESSENGER_GRAPH_URL")
	assert.ErrorContains(t, err, "TRIBUTARY_MESSENGER_GRAPH_VERSION")
}
