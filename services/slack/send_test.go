package slack

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slack-go/slack/slackutilsx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func slackUp(t *testing.T) (*standin.Slack, *Adapter) {
	t.Helper()
	s, err := standin.NewSlack("127.0.0.1:0", map[string]string{"U1": "Ada"}, map[string][]byte{"a.jpg": []byte("jpeg")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	a := New(Config{APIURL: s.APIURL()}, &http.Client{Timeout: 5 * time.Second})
	a.shareWaits = []time.Duration{0, time.Millisecond}
	return s, a
}

func text(threadID, text string) *channel.Outgoing {
	return &channel.Outgoing{
		Connection: &channel.Connection{ID: "c1", Credentials: map[string]string{"bot_token": "xoxb-CANARY"}},
		MessageID:  "0196b1b2-0000-8000-8000-000000000001", Part: 1, Attempt: 2, ConversationKey: "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11",
		Thread: channel.Thread{ID: threadID}, Text: text,
	}
}

func withFile(out *channel.Outgoing, name, content string) *channel.Outgoing {
	out.Attachment = &channel.OutgoingAttachment{
		Name: name, ContentType: "text/plain", Size: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	return out
}

func TestATextGoesToItsThreadAndCarriesWhichPartItIs(t *testing.T) {
	s, a := slackUp(t)
	sent, err := a.Send(t.Context(), text("C1:1773500965.000200", "5 < 6 & <@U1> stays text"))
	require.NoError(t, err)
	posts := s.Posts()
	require.Len(t, posts, 1)
	p := posts[0]
	assert.Equal(t, "C1", p.Channel)
	assert.Equal(t, "1773500965.000200", p.ThreadTS)
	assert.Equal(t, "5 &lt; 6 &amp; &lt;@U1&gt; stays text", p.Text)
	assert.JSONEq(t, `{"event_type":"tributary_message","event_payload":{"message_id":"0196b1b2-0000-8000-8000-000000000001","part":1,"attempt":2,"conversation_key":"6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11"}}`, string(p.Metadata))
	assert.Equal(t, "C1:"+p.TS, sent.ExternalID)
	assert.Equal(t, a.MessageTime(sent.ExternalID).UnixMicro(), sent.Order)
}

func TestADirectMessageStartsNoThread(t *testing.T) {
	s, a := slackUp(t)
	_, err := a.Send(t.Context(), text("D1", "hello"))
	require.NoError(t, err)
	assert.Equal(t, "D1", s.Posts()[0].Channel)
	assert.Empty(t, s.Posts()[0].ThreadTS)
}

// What goes out comes back as an event: its echo must join what was sent.
func TestTheEchoJoinsWhatWasSent(t *testing.T) {
	s, a := slackUp(t)
	sent, err := a.Send(t.Context(), text("D1", "hello"))
	require.NoError(t, err)
	for _, event := range []map[string]any{
		standin.SlackEcho(ourApp, "im", s.Posts()[0]), standin.SlackMetadataPosted(ourApp, s.Posts()[0]),
	} {
		e := normalised(t, event).Events[0]
		assert.Equal(t, sent.ExternalID, e.Target)
		assert.Equal(t, sent.Order, e.Receipt.SentOrder)
	}
	meta := normalised(t, standin.SlackMetadataPosted(ourApp, s.Posts()[0])).Events[0]
	assert.Equal(t, "0196b1b2-0000-8000-8000-000000000001", meta.Receipt.MessageID)
	assert.Equal(t, int32(1), meta.Receipt.Part)
	assert.Equal(t, int32(2), meta.Receipt.Attempt)
	assert.Equal(t, "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11", meta.Thread.ConversationKey)
}

func TestAFileIsUploadedAndFoundInItsMessage(t *testing.T) {
	s, a := slackUp(t)
	sent, err := a.Send(t.Context(), withFile(text("C1:1773500965.000200", "see & read"), "notes.txt", "the notes"))
	require.NoError(t, err)
	require.Len(t, s.Posts(), 1)
	p := s.Posts()[0]
	assert.Equal(t, "files.completeUploadExternal", p.Method)
	assert.Equal(t, "C1", p.Channel)
	assert.Equal(t, "1773500965.000200", p.ThreadTS)
	assert.Equal(t, "notes.txt", p.FileName)
	assert.Equal(t, "the notes", string(p.File))
	assert.Equal(t, "see &amp; read", p.Text)
	assert.Equal(t, "C1:"+p.TS, sent.ExternalID)
}

func TestAFileIsSentEvenWhenItsMessageIsNotFound(t *testing.T) {
	s, a := slackUp(t)
	s.Fail(func(_ int, method string) (f standin.Failure) {
		if method == "files.info" {
			f.Refuse = http.StatusInternalServerError
		}
		return f
	})
	sent, err := a.Send(t.Context(), withFile(text("C1:1773500965.000200", ""), "", "the notes"))
	require.NoError(t, err)
	assert.Empty(t, sent.ExternalID)
	assert.Len(t, s.Posts(), 1)
}

// Before the last step of an upload nobody has seen anything, so it may be done again; after it, not.
func TestWhatAnUploadThatFailsLeaves(t *testing.T) {
	for method, notTaken := range map[string]bool{
		"files.getUploadURLExternal": true, "files.completeUploadExternal": false,
	} {
		t.Run(method, func(t *testing.T) {
			s, a := slackUp(t)
			s.Fail(func(_ int, m string) standin.Failure { return standin.Failure{HangUp: m == method} })
			_, err := a.Send(t.Context(), withFile(text("C1", ""), "notes.txt", "the notes"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "no_answer", NotTaken: notTaken}, *e)
		})
	}
	t.Run("the file can't be read", func(t *testing.T) {
		_, a := slackUp(t)
		out := withFile(text("C1", ""), "notes.txt", "the notes")
		out.Attachment.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("bucket away") }
		_, err := a.Send(t.Context(), out)
		var e *channel.Error
		require.ErrorAs(t, err, &e)
		assert.True(t, e.NotTaken)
	})
}

func TestAnswersAreMappedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		body       string
		want       channel.Error // without its sentence
	}{
		"token invalid":        {200, "", `{"ok":false,"error":"invalid_auth"}`, channel.Error{Class: channel.ClassReauthorise, Code: "invalid_auth"}},
		"token revoked":        {200, "", `{"ok":false,"error":"token_revoked"}`, channel.Error{Class: channel.ClassReauthorise, Code: "token_revoked"}},
		"token expired":        {200, "", `{"ok":false,"error":"token_expired"}`, channel.Error{Class: channel.ClassReauthorise, Code: "token_expired"}},
		"account gone":         {200, "", `{"ok":false,"error":"account_inactive"}`, channel.Error{Class: channel.ClassReauthorise, Code: "account_inactive"}},
		"no token":             {200, "", `{"ok":false,"error":"not_authed"}`, channel.Error{Class: channel.ClassReauthorise, Code: "not_authed"}},
		"scope missing":        {200, "", `{"ok":false,"error":"missing_scope"}`, channel.Error{Class: channel.ClassReject, Code: "missing_scope"}},
		"no such channel":      {200, "", `{"ok":false,"error":"channel_not_found"}`, channel.Error{Class: channel.ClassReject, Code: "channel_not_found"}},
		"archived":             {200, "", `{"ok":false,"error":"is_archived"}`, channel.Error{Class: channel.ClassReject, Code: "is_archived"}},
		"an error not known":   {200, "", `{"ok":false,"error":"from_the_future"}`, channel.Error{Class: channel.ClassReject, Code: "from_the_future"}},
		"an error with words":  {200, "", `{"ok":false,"error":"Ada CANARY wrote too much"}`, channel.Error{Class: channel.ClassReject, Code: "other"}},
		"rate, by status":      {429, "30", ``, channel.Error{Class: channel.ClassRetry, Code: "ratelimited", NotTaken: true, RetryAfter: 30 * time.Second}},
		"rate, no pause named": {429, "", ``, channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true}},
		"rate, by error":       {200, "", `{"ok":false,"error":"ratelimited"}`, channel.Error{Class: channel.ClassRetry, Code: "ratelimited", NotTaken: true}},
		"moving to an org":     {200, "", `{"ok":false,"error":"team_added_to_org"}`, channel.Error{Class: channel.ClassRetry, Code: "team_added_to_org", NotTaken: true}},
		"not in the channel":   {200, "", `{"ok":false,"error":"not_in_channel"}`, channel.Error{Class: channel.ClassReject, Code: "not_in_channel"}},
		"read only":            {200, "", `{"ok":false,"error":"restricted_action_read_only_channel"}`, channel.Error{Class: channel.ClassReject, Code: "restricted_action_read_only_channel"}},
		"too long":             {200, "", `{"ok":false,"error":"msg_too_long"}`, channel.Error{Class: channel.ClassReject, Code: "msg_too_long"}},
		"not in the workspace": {200, "", `{"ok":false,"error":"team_access_not_granted"}`, channel.Error{Class: channel.ClassReject, Code: "team_access_not_granted"}},
		"half done":            {200, "", `{"ok":false,"error":"fatal_error"}`, channel.Error{Class: channel.ClassRetry, Code: "fatal_error"}},
		"server broken":        {503, "", `upstream`, channel.Error{Class: channel.ClassRetry, Code: "http_503"}},
		"sent elsewhere":       {302, "", ``, channel.Error{Class: channel.ClassRetry, Code: "http_302"}},
		"not found":            {404, "", ``, channel.Error{Class: channel.ClassReject, Code: "http_404"}},
		"not Slack's answer":   {200, "", `<html>hello`, channel.Error{Class: channel.ClassRetry, Code: "no_answer"}},
		"an empty answer":      {200, "", `{}`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			_, err := New(Config{APIURL: server.URL}, server.Client()).Send(t.Context(), text("C1", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.NotContains(t, err.Error()+e.Sentence, "CANARY")
			e.Sentence = ""
			assert.Equal(t, c.want, *e)
		})
	}
}

func TestWhatNeverLeftMayBeSentAgain(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tls := httptest.NewTLSServer(http.NotFoundHandler()) // a certificate that nobody trusts
	defer tls.Close()
	for name, url := range map[string]string{"nobody listens": gone.URL, "another than Slack answers": tls.URL, "no such name": "http://slack.invalid"} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{APIURL: url}, &http.Client{Timeout: 5 * time.Second}).Send(t.Context(), text("C1", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}, *e)
		})
	}
	t.Run("but not what timed out", func(t *testing.T) {
		s, a := slackUp(t)
		s.Fail(func(int, string) standin.Failure { return standin.Failure{Delay: time.Minute} })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := a.Send(ctx, text("C1", "hello"))
		var e *channel.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "timeout"}, *e)
		assert.Len(t, s.Posts(), 1, "it was taken")
	})
}

func TestCheckRefusesBeforeAnyCall(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	for code, out := range map[string]*channel.Outgoing{
		"no_channel":   text("", "hello"),
		"no_text":      text("C1", " \n"),
		"msg_too_long": text("C1", strings.Repeat("é", 40_001)),
		"empty_file":   withFile(text("C1", ""), "empty", ""),
		"no_bot_token": {Connection: &channel.Connection{}, Thread: channel.Thread{ID: "C1"}, Text: "hello"},
	} {
		_, err := a.Send(t.Context(), out)
		var e *channel.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, code, e.Code)
		assert.NotEmpty(t, e.Sentence)
	}
	assert.NoError(t, a.Check(text("C1", strings.Repeat("é", 40_000))))
	assert.NoError(t, a.Check(withFile(text("C1", ""), "", "x")))
	large := withFile(text("C1", ""), "film.mp4", "x")
	large.Attachment.Size = 1<<30 + 1
	var e *channel.Error
	require.ErrorAs(t, a.Check(large), &e)
	assert.Equal(t, "file_too_large", e.Code)
}

// What a member may act on comes with a sentence that says how.
func TestRefusalsThatAMemberCanMendSaySo(t *testing.T) {
	for _, code := range []string{
		"token_revoked", "invalid_auth", "account_inactive", "missing_scope", "not_in_channel", "channel_not_found", "is_archived", "msg_too_long",
		"restricted_action", "restricted_action_thread_locked", "team_access_not_granted", "message_limit_exceeded", "storage_limit_reached",
	} {
		assert.NotEmpty(t, refusal(code).Sentence, code)
	}
}

func TestPartsOfALongTextAreAllTaken(t *testing.T) {
	features, ok := channel.Lookup("slack")
	require.True(t, ok)
	a := New(*DefaultConfig(), nil)
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"<&>", "Grüezi ", "👩🏽‍💻", "x", " \n"}).Draw(t, "word")
		whole := strings.Repeat(word, rapid.IntRange(1, 9_000).Draw(t, "times"))
		parts := channel.Split(whole, features.TextLimit, features.TextUnit)
		if strings.Join(parts, "") != whole {
			t.Fatal("something is lost")
		}
		for _, part := range parts {
			if escaped := slackutilsx.EscapeMessage(part); utf8.RuneCountInString(escaped) > longestText {
				t.Fatal("Slack would cut it")
			}
			if strings.TrimSpace(part) != "" && a.Check(text("C1", part)) != nil {
				t.Fatal("refused")
			}
		}
	})
}

func TestPaceIsTheChannels(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	assert.Equal(t, a.Pace(text("C1:1773500965.000200", "")), a.Pace(text("C1:1773500999.000200", "")))
	assert.NotEqual(t, a.Pace(text("C1", "")).Key, a.Pace(text("C2", "")).Key)
	assert.Equal(t, time.Second, a.Pace(text("C1", "")).Every)
}
