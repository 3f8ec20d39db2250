package telegram

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func withFile(out *channel.Outgoing, contentType string, content []byte) *channel.Outgoing {
	out.Attachment = &channel.OutgoingAttachment{
		Name: "a", ContentType: contentType, Size: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	return out
}

func TestAReplyGoesToItsTopicAndNamesTheMessage(t *testing.T) {
	s, a := telegramUp(t)
	out := text("", "on its way")
	out.Thread, out.ReplyTo = channel.Thread{ID: "-1001823456789:77", Group: true}, "-1001823456789:512"
	sent, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	require.Len(t, s.Posts(), 1)
	p := s.Posts()[0]
	assert.Equal(t, []string{"-1001823456789", "77", "on its way"}, []string{p.ChatID, p.Topic, p.Text})
	assert.Equal(t, int64(512), p.ReplyTo)
	assert.Equal(t, "-1001823456789:1001", sent.ExternalID, "as a webhook about it would name it")
	assert.Equal(t, int64(1001), sent.Order%1_000_000)
}

func TestWhatAnswersAButtonNamesNoMessage(t *testing.T) {
	s, a := telegramUp(t)
	out := text("781220015", "red it is")
	out.ReplyTo = "callback/3355443200000000001"
	_, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	assert.Zero(t, s.Posts()[0].ReplyTo)
}

func TestAPictureGoesAsAPhotoAndAnythingElseAsADocument(t *testing.T) {
	s, a := telegramUp(t)
	for _, file := range []struct {
		contentType string
		content     []byte
	}{{"image/jpeg", []byte("jpeg")}, {"image/jpeg", make([]byte, largestPhoto+1)}, {"video/mp4", []byte("mp4")}} {
		_, err := a.Send(t.Context(), withFile(text("781220015", ""), file.contentType, file.content))
		require.NoError(t, err)
	}
	var methods []string
	for _, p := range s.Posts() {
		methods = append(methods, p.Method)
	}
	assert.Equal(t, []string{"sendPhoto", "sendDocument", "sendDocument"}, methods)
}

func TestAPersonWhoBlockedTheBotHasOptedOut(t *testing.T) {
	s, a := telegramUp(t)
	s.Block("781220015")
	_, err := a.Send(t.Context(), text("781220015", "hello"))
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.ClassOptedOut, e.Class)
	assert.Equal(t, "blocked", e.Code)
}

func TestCheckRefusesBeforeAnyCall(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	large := withFile(text("781220015", ""), "video/mp4", []byte("x"))
	large.Attachment.Size = largestFile + 1
	for code, out := range map[string]*channel.Outgoing{
		"no_chat": text("", "hello"), "no_text": text("781220015", " \n"), "file_too_large": large,
		"empty_file": withFile(text("781220015", ""), "video/mp4", nil), "too_long": text("781220015", strings.Repeat("😀", 2049)),
	} {
		_, err := a.Send(t.Context(), out)
		var e *channel.Error
		require.ErrorAs(t, err, &e, code)
		assert.Equal(t, code, e.Code)
		assert.NotEmpty(t, e.Sentence)
	}
	assert.NoError(t, a.Check(text("781220015", strings.Repeat("😀", 2048))))
}

func TestAnswersAreMappedOnce(t *testing.T) {
	says := func(description string) string {
		return `{"ok":false,"error_code":400,"description":"` + description + `","parameters":{"retry_after":9}}`
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   channel.Error // without its sentence
	}{
		"a revoked token":       {401, "", channel.Error{Class: channel.ClassReauthorise, Code: "token"}},
		"no token at all":       {404, says("Not Found"), channel.Error{Class: channel.ClassReauthorise, Code: "token"}},
		"too many":              {429, says("Too Many Requests: retry after 9"), channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true, RetryAfter: 9 * time.Second}},
		"a deactivated account": {403, says("Forbidden: user is deactivated"), channel.Error{Class: channel.ClassReject, Code: "deactivated"}},
		"removed from a group":  {403, says("Forbidden: bot was kicked from the supergroup chat"), channel.Error{Class: channel.ClassReject, Code: "forbidden"}},
		"no such chat":          {400, says("Bad Request: chat not found"), channel.Error{Class: channel.ClassReject, Code: "chat_not_found"}},
		"upgraded":              {400, says("Bad Request: group chat was upgraded to a supergroup chat"), channel.Error{Class: channel.ClassReject, Code: "upgraded"}},
		"anything else":         {400, says("Bad Request: CANARY"), channel.Error{Class: channel.ClassReject, Code: "http_400"}},
		"broken":                {502, "<html>", channel.Error{Class: channel.ClassRetry, Code: "http_502"}},
		"sent elsewhere":        {302, "", channel.Error{Class: channel.ClassRetry, Code: "http_302"}},
		"a page":                {200, "<html>", channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
		"ok, but not ok":        {200, `{"ok":false}`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
		"no message":            {200, `{"ok":true,"result":{}}`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer s.Close()
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			_, err := New(Config{APIURL: s.URL}, client).Send(t.Context(), text("781220015", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			e.Sentence = ""
			assert.Equal(t, &c.want, e)
		})
	}
}

// The token is in each address, and Go's errors quote addresses.
func TestNoErrorTellsTheToken(t *testing.T) {
	s, a := telegramUp(t)
	require.NoError(t, s.Close())
	_, err := a.Send(t.Context(), text("781220015", "hello"))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "CANARY")
	_, err = a.Locate(t.Context(), text("", "").Connection, channel.MediaRef{ExternalID: "AgACAgQ"})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "CANARY")
	odd := text("781220015", "hello")
	odd.Connection.Credentials["bot_token"] = "1:CANARY\n"
	_, err = a.Send(t.Context(), odd)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "CANARY")
}

func TestAFileLiesWhereTheAPIDoes(t *testing.T) {
	path := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"ok":true,"result":{"file_path":"`+path+`"}}`)
	}))
	defer s.Close()
	a := New(Config{APIURL: s.URL}, http.DefaultClient)
	conn := text("", "").Connection
	for given, want := range map[string]string{
		"photos/file_1.jpg":         s.URL + "/file/bot" + botToken + "/photos/file_1.jpg",
		"https://elsewhere.example": s.URL + "/file/bot" + botToken + "/https://elsewhere.example",
		"a b?c#d":                   s.URL + "/file/bot" + botToken + "/a%20b%3Fc%23d",
		"../../other":               "",
		"":                          "",
	} {
		path = given
		found, err := a.Locate(t.Context(), conn, channel.MediaRef{ExternalID: "AgACAgQ"})
		assert.Equal(t, want == "", err != nil, given)
		assert.Equal(t, want, found.URL)
	}
	for _, none := range []string{"", "https://elsewhere.example/a.jpg", "../getMe", strings.Repeat("a", 257)} {
		_, err := a.Locate(t.Context(), conn, channel.MediaRef{ExternalID: none})
		assert.Error(t, err, none)
		_, err = a.Media(conn, channel.MediaRef{URL: none})
		assert.Error(t, err, none)
	}
}

func TestAGroupIsWrittenToMoreSlowly(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	assert.Equal(t, channel.Pace{Key: "781220015", Every: time.Second, Burst: 3}, a.Pace(text("781220015", "x")))
	group := text("", "x")
	group.Thread.ID = "-1001823456789:77"
	assert.Equal(t, channel.Pace{Key: "-1001823456789", Every: 3 * time.Second, Burst: 3}, a.Pace(group))
}
