package slack

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func TestTheTokenGoesToSlackAlone(t *testing.T) {
	s, a := slackUp(t)
	conn := text("C1", "").Connection
	for url, trusted := range map[string]bool{
		"https://files.slack.com/files-pri/T1-F1/a.jpg": true,
		"https://slack.com/x":                           true,
		s.URL + "/files/a.jpg":                          true,
		"http://files.slack.com/files-pri/T1-F1/a.jpg":  false,
		"https://files.slack.com.evil.example/a.jpg":    false,
		"https://evilslack.com/a.jpg":                   false,
		"https://docs.google.com/document/1":            false,
	} {
		request, err := a.Media(conn, channel.MediaRef{URL: url})
		require.NoError(t, err)
		assert.Equal(t, url, request.URL)
		if trusted {
			assert.Equal(t, "Bearer xoxb-CANARY", request.Header.Get("Authorization"), url)
			require.Len(t, request.HeaderHosts, 1)
			assert.Contains(t, url, request.HeaderHosts[0])
		} else {
			assert.Empty(t, request.Header, url)
		}
	}
	for _, url := range []string{"", "file:///etc/passwd", "//x", "%zz"} {
		_, err := a.Media(conn, channel.MediaRef{URL: url})
		assert.Error(t, err, url)
	}
}

func TestProfiles(t *testing.T) {
	_, a := slackUp(t)
	conn := text("C1", "").Connection
	p, ok, err := a.Profile(t.Context(), conn, channel.Identity{Kind: "slack_user", Value: "T1:U1"})
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, channel.Profile{Name: "Ada", Handle: "Ada", TimeZone: "Europe/Zurich"}, p)

	for _, nobody := range []channel.Identity{{Kind: "slack_user", Value: "T1:U404"}, {Kind: "slack_bot", Value: "T1:?"}, {Kind: "phone", Value: "+41"}} {
		_, ok, err = a.Profile(t.Context(), conn, nobody)
		assert.NoError(t, err)
		assert.False(t, ok)
	}

	conn.Credentials["bot_token"] = ""
	_, _, err = a.Profile(t.Context(), conn, channel.Identity{Kind: "slack_user", Value: "T1:U1"})
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.ClassReauthorise, e.Class)
}

func TestBotProfile(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.True(t, bytes.Contains(body, []byte("bot=B1")))
		_, _ = io.WriteString(w, `{"ok":true,"bot":{"id":"B1","name":"Builds","icons":{"image_72":"https://a.slack-edge.com/b.png"}}}`)
	}))
	defer server.Close()
	p, ok, err := New(Config{APIURL: server.URL + "/"}, server.Client()).Profile(t.Context(), text("C1", "").Connection, channel.Identity{Kind: "slack_bot", Value: "T1:B1"})
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, channel.Profile{Name: "Builds", AvatarURL: "https://a.slack-edge.com/b.png"}, p)
}

// Whatever is asked, a token that is void says so in the class by which the connection is set to reauthorise.
func TestAVoidTokenSaysSoToEveryQuestion(t *testing.T) {
	s, a := slackUp(t)
	conn := text("C1", "").Connection
	for _, code := range []string{"token_revoked", "invalid_auth", "account_inactive", "token_expired"} {
		s.Deny("*", code)
		_, _, user := a.Profile(t.Context(), conn, channel.Identity{Kind: "slack_user", Value: "T1:U1"})
		_, file := a.Locate(t.Context(), conn, channel.MediaRef{ExternalID: "F1"})
		_, sent := a.Send(t.Context(), text("C1", "hello"))
		for _, err := range []error{user, file, sent} {
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.ClassReauthorise, e.Class)
			assert.Equal(t, code, e.Code)
		}
	}
	s.Deny("*", "")
	_, ok, err := a.Profile(t.Context(), conn, channel.Identity{Kind: "slack_user", Value: "T1:U1"})
	require.NoError(t, err)
	assert.True(t, ok)
}

func TestAFileOfSlackConnectIsAskedFor(t *testing.T) {
	s, a := slackUp(t)
	s.Hold("F0CONNECT", "a.jpg")
	conn := text("C1", "").Connection
	at, err := a.Locate(t.Context(), conn, channel.MediaRef{ExternalID: "F0CONNECT"})
	require.NoError(t, err)
	assert.Equal(t, s.URL+"/files/a.jpg", at.URL)
	request, err := a.Media(conn, at)
	require.NoError(t, err)
	assert.Equal(t, "Bearer xoxb-CANARY", request.Header.Get("Authorization"))

	s.Fail(func(int, string) standin.Failure {
		return standin.Failure{Refuse: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7"}}}
	})
	_, err = a.Locate(t.Context(), conn, channel.MediaRef{ExternalID: "F0CONNECT"})
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "ratelimited", NotTaken: true, RetryAfter: 7 * time.Second}, *e)
}

func TestFilesThatCanNotBeHadSayWhy(t *testing.T) {
	for code, answer := range map[string]string{
		"file_not_found":  `{"ok":false,"error":"file_not_found"}`,
		"file_deleted":    `{"ok":true,"file":{"id":"F1","mode":"tombstone"}}`,
		"hidden_by_limit": `{"ok":true,"file":{"id":"F1","mode":"hidden_by_limit","url_private":"https://files.slack.com/x"}}`,
		"access_denied":   `{"ok":true,"file":{"id":"F1","mode":"file_access","file_access":"access_denied"}}`,
		"no_url":          `{"ok":true,"file":{"id":"F1","mode":"hosted"}}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		_, err := New(Config{APIURL: server.URL}, server.Client()).Locate(t.Context(), text("C1", "").Connection, channel.MediaRef{ExternalID: "F1"})
		server.Close()
		var e *channel.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, channel.ClassReject, e.Class, code)
		assert.Equal(t, code, e.Code)
	}
	_, err := New(*DefaultConfig(), nil).Locate(t.Context(), text("C1", "").Connection, channel.MediaRef{ExternalID: "../F1"})
	assert.Error(t, err)
}
