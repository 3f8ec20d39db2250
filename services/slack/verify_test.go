package slack

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// One clock that is wrong makes no request stale, and two make none fresh.
func TestVerifyGoesByEitherClock(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	signed := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	body := []byte(`{"type":"event_callback"}`)
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		for _, c := range []struct {
			mesh, local time.Duration
			ok          bool
		}{{off, 0, true}, {0, off, true}, {off, off, false}, {off, -off, false}} {
			r := &channel.Request{Header: standin.SlackHeader("secret", body, signed), Body: body, ReceivedAt: signed.Add(c.mesh), LocalTime: signed.Add(c.local)}
			assert.Equal(t, c.ok, a.Verify(r, channel.Secrets{"secret"}) == nil, "the mesh's clock is off by %s, the machine's by %s", c.mesh, c.local)
		}
	}
}

func TestVerifyGoesByTheMeshsClock(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	signed := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	body := []byte(`{"type":"event_callback"}`)
	for late, ok := range map[time.Duration]bool{
		0: true, 5 * time.Minute: true, 5*time.Minute + time.Second: false,
		-5 * time.Minute: true, -5*time.Minute - time.Second: false, 24 * time.Hour: false,
	} {
		r := &channel.Request{Header: standin.SlackHeader("secret", body, signed), Body: body, ReceivedAt: signed.Add(late)}
		assert.Equal(t, ok, a.Verify(r, channel.Secrets{"secret"}) == nil, "received %s after it was signed", late)
	}
}

// The example of https://docs.slack.dev/authentication/verifying-requests-from-slack.
func TestVerifySlacksOwnExample(t *testing.T) {
	body := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
		"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com" +
		"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	r := &channel.Request{
		Header: http.Header{
			"X-Slack-Request-Timestamp": {"1531420618"},
			"X-Slack-Signature":         {"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"},
		},
		Body: []byte(body), ReceivedAt: time.Unix(1531420620, 0),
	}
	require.NoError(t, New(*DefaultConfig(), http.DefaultClient).Verify(r, channel.Secrets{"8f742231b10e8888abcd99yyyzzz85a5"}))
}

func TestChallengeIsOnlyWhatAsksForOne(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	for _, body := range []string{`{"type":"event_callback","event":{"text":"\"url_verification\""}}`, `{"type":["url_verification"]}`, `"url_verification"`, ""} {
		_, asked, err := a.Challenge(&channel.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}, nil)
		assert.False(t, asked, body)
		assert.NoError(t, err)
	}
	_, asked, err := a.Challenge(&channel.Request{Method: http.MethodGet}, nil)
	assert.False(t, asked, "Slack never asks with a GET")
	assert.NoError(t, err)
}

func TestConfigNamesTheSetting(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	assert.ErrorContains(t, (&Config{APIURL: "slack.com/api"}).Validate(), "TRIBUTARY_SLACK_API_URL")
}
