package messenger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

const (
	appSecret = "CANARY-app-secret"
	pageToken = "EAACANARYtoken"
)

func graphUp(t *testing.T) (*standin.Graph, *Adapter) {
	t.Helper()
	g, err := standin.NewGraph("127.0.0.1:0", ourApp, appSecret, map[string]string{page: pageToken, "730000112233445": "EAAother"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Close() })
	return g, New(Config{GraphURL: g.URL, GraphVersion: "v25.0"}, &http.Client{Timeout: 5 * time.Second})
}

// text that a member wrote an hour after the person's last act.
func text(text string) *channel.Outgoing {
	return &channel.Outgoing{
		Connection: &channel.Connection{
			ID: "c1", ExternalID: page, AppExternalID: ourApp, AppSecret: appSecret, Credentials: map[string]string{"page_token": pageToken},
		},
		MessageID: "0196b1b2-0000-8000-8000-000000000001", Part: 1, Attempt: 2, ConversationKey: "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11",
		To: page + ":" + ada, Text: text, LastInbound: at, Now: at.Add(time.Hour), ByMember: true,
	}
}

func withFile(out *channel.Outgoing, name, contentType, content string) *channel.Outgoing {
	out.Text = ""
	out.Attachment = &channel.OutgoingAttachment{
		Name: name, ContentType: contentType, Size: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	return out
}

func refusalOf(t *testing.T, err error) channel.Error {
	t.Helper()
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.NotContains(t, e.Error()+e.Sentence, "CANARY")
	return *e
}

func TestATextIsAResponseThatCarriesWhichPartItIs(t *testing.T) {
	g, a := graphUp(t)
	out := text("5 < 6 & <b>stays</b> text 👋")
	out.ReplyTo = "m_answered"
	sent, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	require.Len(t, g.Posts(), 1)
	p := g.Posts()[0]
	assert.Equal(t, page, p.Page)
	assert.Equal(t, ada, p.PSID)
	assert.Equal(t, out.Text, p.Text)
	assert.Equal(t, "RESPONSE", p.MessagingType)
	assert.Empty(t, p.Tag)
	assert.Equal(t, "m_answered", p.ReplyTo)
	assert.JSONEq(t, `{"tributary":{"message_id":"0196b1b2-0000-8000-8000-000000000001","part":1,"attempt":2,"conversation_key":"6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11"}}`, p.Metadata)
	assert.Equal(t, channel.Sent{ExternalID: p.MID}, sent)
}

func TestAMadeIdIsNotAnswered(t *testing.T) {
	g, a := graphUp(t)
	out := text("hello")
	out.ReplyTo = one(t, standin.MessengerItem(page, ada, at, map[string]any{"referral": map[string]any{"ref": "r"}})).ExternalID
	_, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	assert.Empty(t, g.Posts()[0].ReplyTo)
}

// What goes out comes back as an echo, which may be told before the call is answered.
func TestTheEchoJoinsWhatWasSent(t *testing.T) {
	g, a := graphUp(t)
	var echoed channel.Event
	g.Posted = func(p standin.GraphPost) { echoed = one(t, g.Echo(p)) }
	sent, err := a.Send(t.Context(), text("hello"))
	require.NoError(t, err)
	assert.Equal(t, sent.ExternalID, echoed.Target)
	assert.Equal(t, channel.TypeReceipt, echoed.Type)
	assert.Equal(t, channel.Receipt{
		MessageID: "0196b1b2-0000-8000-8000-000000000001", Part: 1, Attempt: 2, Status: channel.StatusSent,
		ExternalID: sent.ExternalID, SentOrder: g.Posts()[0].At.UnixMicro(),
	}, *echoed.Receipt)
	assert.Equal(t, "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11", echoed.Thread.ConversationKey)
	read := one(t, standin.MessengerRead(page, ada, g.Posts()[0].At, at))
	assert.False(t, read.Receipt.Through.Before(time.UnixMicro(echoed.Receipt.SentOrder)), "a watermark reaches the message that it was set by")
}

// Within 24 hours anybody may answer; within 7 days a member may, tagged; a bot's message is never tagged.
func TestTheWindowAtItsEdges(t *testing.T) {
	const day, instant = 24 * time.Hour, time.Microsecond
	for _, c := range []struct {
		since    time.Duration
		byMember bool
		sent     string // messaging type; empty: closed
	}{
		{0, false, "RESPONSE"}, {0, true, "RESPONSE"},
		{-time.Hour, false, "RESPONSE"}, // Meta's clock is ahead of ours
		{day - instant, false, "RESPONSE"}, {day - instant, true, "RESPONSE"},
		{day, false, ""}, {day, true, "MESSAGE_TAG"},
		{7*day - instant, false, ""}, {7*day - instant, true, "MESSAGE_TAG"},
		{7 * day, false, ""}, {7 * day, true, ""},
		{365 * day, true, ""},
	} {
		g, a := graphUp(t)
		out := text("hello")
		out.Now, out.ByMember = out.LastInbound.Add(c.since), c.byMember
		checked := a.Check(out)
		_, err := a.Send(t.Context(), out)
		if c.sent == "" {
			assert.Equal(t, channel.ClassWindowClosed, refusalOf(t, checked).Class, "%v", c)
			assert.Equal(t, channel.ClassWindowClosed, refusalOf(t, err).Class, "%v", c)
			assert.NotEmpty(t, refusalOf(t, err).Sentence)
			assert.Empty(t, g.Posts(), "nothing left: %v", c)
			continue
		}
		require.NoError(t, checked, "%v", c)
		require.NoError(t, err, "%v", c)
		assert.Equal(t, c.sent, g.Posts()[0].MessagingType, "%v", c)
		assert.Equal(t, c.sent == "MESSAGE_TAG", g.Posts()[0].Tag == "HUMAN_AGENT", "%v", c)
	}
	out := text("hello")
	out.LastInbound = time.Time{}
	assert.Equal(t, "window_closed", refusalOf(t, New(*DefaultConfig(), nil).Check(out)).Code, "who never wrote can't be written to")
}

func TestAFileGoesByItsAddressOrAsItself(t *testing.T) {
	for contentType, kind := range map[string]string{"image/png": "image", "audio/mp3": "audio", "video/mp4": "video", "application/pdf": "file", "": "file"} {
		g, a := graphUp(t)
		out := withFile(text(""), "naïve \"x\".bin", contentType, "the bytes")
		out.Attachment.URL = "http://127.0.0.1:8080/media/messenger/abc" // what a mesh without a public address has
		_, err := a.Send(t.Context(), out)
		require.NoError(t, err)
		p := g.Posts()[0]
		assert.Equal(t, kind, p.AttachmentType)
		assert.Equal(t, "the bytes", string(p.File))
		assert.Equal(t, "naïve \"x\".bin", p.FileName)
		assert.Empty(t, p.URL)
		assert.Contains(t, p.Metadata, "0196b1b2-0000-8000-8000-000000000001")

		out = withFile(text(""), "x.bin", contentType, "the bytes")
		out.Attachment.URL = "https://mesh.example/media/messenger/abc"
		_, err = a.Send(t.Context(), out)
		require.NoError(t, err)
		p = g.Posts()[1]
		assert.Equal(t, kind, p.AttachmentType)
		assert.Equal(t, out.Attachment.URL, p.URL)
		assert.Empty(t, p.File)
	}
	t.Run("with a tag, late", func(t *testing.T) {
		g, a := graphUp(t)
		out := withFile(text(""), "x.bin", "text/plain", "the bytes")
		out.Now, out.ReplyTo = out.LastInbound.Add(48*time.Hour), "m_answered"
		_, err := a.Send(t.Context(), out)
		require.NoError(t, err)
		assert.Equal(t, "HUMAN_AGENT", g.Posts()[0].Tag)
		assert.Equal(t, "m_answered", g.Posts()[0].ReplyTo)
	})
}

// A file that can't be read whole was not sent: the call may be made again.
func TestAFileThatBreaksOffWasNotSent(t *testing.T) {
	g, a := graphUp(t)
	want := channel.Error{Class: channel.ClassRetry, Code: "file_unreadable", NotTaken: true}
	out := withFile(text(""), "x", "text/plain", "the bytes")
	out.Attachment.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("bucket away") }
	_, err := a.Send(t.Context(), out)
	assert.Equal(t, want, refusalOf(t, err))
	out.Attachment.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("the"), broken{})), nil
	}
	_, err = a.Send(t.Context(), out)
	assert.Equal(t, want, refusalOf(t, err))
	assert.Empty(t, g.Posts())
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("bucket broke") }

func TestMetasRefusalsAreMappedOnce(t *testing.T) {
	closed := func(c channel.Class, code string) channel.Error { return channel.Error{Class: c, Code: code} }
	again := func(code string) channel.Error {
		return channel.Error{Class: channel.ClassRetry, Code: code, NotTaken: true}
	}
	for name, c := range map[string]struct {
		refused standin.GraphError
		want    channel.Error // without its sentence
	}{
		"token expired":                  {standin.GraphError{Status: 401, Code: 190, Subcode: 463}, closed(channel.ClassReauthorise, "190/463")},
		"token void":                     {standin.GraphError{Status: 400, Code: 190}, closed(channel.ClassReauthorise, "190")},
		"session void":                   {standin.GraphError{Code: 102}, closed(channel.ClassReauthorise, "102")},
		"outside the window":             {standin.GraphError{Status: 403, Code: 10, Subcode: 2018278}, closed(channel.ClassWindowClosed, "10/2018278")},
		"outside the window, older":      {standin.GraphError{Status: 403, Code: 10, Subcode: 2018065}, closed(channel.ClassWindowClosed, "10/2018065")},
		"no permission":                  {standin.GraphError{Status: 403, Code: 10}, closed(channel.ClassReject, "10")},
		"no permission, another":         {standin.GraphError{Status: 403, Code: 10, Subcode: 2018276}, closed(channel.ClassReject, "10/2018276")},
		"not allowed":                    {standin.GraphError{Status: 403, Code: 200}, closed(channel.ClassReject, "200")},
		"person unavailable":             {standin.GraphError{Code: 551, Subcode: 1545041}, closed(channel.ClassReject, "551/1545041")},
		"no such person":                 {standin.GraphError{Code: 100, Subcode: 2018001}, closed(channel.ClassReject, "100/2018001")},
		"a bad parameter":                {standin.GraphError{Code: 100}, closed(channel.ClassReject, "100")},
		"the app's calls":                {standin.GraphError{Status: 403, Code: 4}, again("4")},
		"the user's calls":               {standin.GraphError{Code: 17}, again("17")},
		"the Page's calls":               {standin.GraphError{Code: 32}, again("32")},
		"this API's calls":               {standin.GraphError{Code: 613}, again("613")},
		"Messenger's calls":              {standin.GraphError{Code: 80006}, again("80006")},
		"temporary":                      {standin.GraphError{Status: 500, Code: 1200}, again("1200")},
		"service unavailable":            {standin.GraphError{Status: 500, Code: 2, Transient: true}, again("2")},
		"upload failed":                  {standin.GraphError{Code: 100, Subcode: 2018047}, again("100/2018047")},
		"unknown: nobody knows":          {standin.GraphError{Status: 500, Code: 1, Subcode: 99}, closed(channel.ClassRetry, "1/99")},
		"new, but it may pass":           {standin.GraphError{Code: 4711, Transient: true}, closed(channel.ClassRetry, "4711")},
		"new, and Meta's servers' fault": {standin.GraphError{Status: 503, Code: 4711}, closed(channel.ClassRetry, "4711")},
		"new":                            {standin.GraphError{Code: 4711}, closed(channel.ClassReject, "4711")},
	} {
		t.Run(name, func(t *testing.T) {
			g, a := graphUp(t)
			g.Refuse(func(standin.GraphPost) *standin.GraphError { return &c.refused })
			_, err := a.Send(t.Context(), text("hello"))
			e := refusalOf(t, err)
			e.Sentence = ""
			assert.Equal(t, c.want, e)
			assert.Empty(t, g.Posts())
		})
	}
}

func TestAnswersThatAreNotTheGraphAPIs(t *testing.T) {
	const limited = `{"error":{"code":613}}`
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		want   channel.Error
	}{
		"rate, a pause in seconds":  {400, map[string]string{"Retry-After": "30"}, limited, channel.Error{Class: channel.ClassRetry, Code: "613", NotTaken: true, RetryAfter: 30 * time.Second}},
		"rate, a pause in minutes":  {400, map[string]string{"X-Business-Use-Case-Usage": `{"1":[{"type":"messenger","call_count":100,"estimated_time_to_regain_access":7}],"2":[{"estimated_time_to_regain_access":2}]}`}, limited, channel.Error{Class: channel.ClassRetry, Code: "613", NotTaken: true, RetryAfter: 7 * time.Minute}},
		"rate, an absurd pause":     {400, map[string]string{"Retry-After": "99999999", "X-Business-Use-Case-Usage": `{"1":[{"estimated_time_to_regain_access":99999999}]}`}, limited, channel.Error{Class: channel.ClassRetry, Code: "613", NotTaken: true, RetryAfter: 24 * time.Hour}},
		"rate, an unreadable pause": {400, map[string]string{"Retry-After": "soon", "X-Business-Use-Case-Usage": "{"}, limited, channel.Error{Class: channel.ClassRetry, Code: "613", NotTaken: true}},
		"rate, by status":           {429, map[string]string{"Retry-After": "5"}, ``, channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true, RetryAfter: 5 * time.Second}},
		"server broken":             {503, nil, `upstream CANARY`, channel.Error{Class: channel.ClassRetry, Code: "http_503"}},
		"sent elsewhere":            {302, nil, ``, channel.Error{Class: channel.ClassRetry, Code: "http_302"}},
		"not found":                 {404, nil, `{"error":"CANARY"}`, channel.Error{Class: channel.ClassReject, Code: "http_404"}},
		"not JSON":                  {200, nil, `<html>CANARY`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
		"an empty answer":           {200, nil, `{}`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
		"an error with a 200":       {200, nil, `{"error":{"message":"CANARY","code":190}}`, channel.Error{Class: channel.ClassReauthorise, Code: "190"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			_, err := New(Config{GraphURL: server.URL, GraphVersion: "v25.0"}, client).Send(t.Context(), text("hello"))
			e := refusalOf(t, err)
			e.Sentence = ""
			assert.Equal(t, c.want, e)
		})
	}
}

func TestWhatNeverLeftMayBeSentAgain(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tls := httptest.NewTLSServer(http.NotFoundHandler()) // a certificate that nobody trusts
	defer tls.Close()
	for name, url := range map[string]string{"nobody listens": gone.URL, "another than Meta answers": tls.URL, "no such name": "http://graph.invalid"} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{GraphURL: url, GraphVersion: "v25.0"}, &http.Client{Timeout: 5 * time.Second}).Send(t.Context(), text("hello"))
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}, refusalOf(t, err))
		})
	}
	t.Run("nor what the app has no secret for yet", func(t *testing.T) {
		g, a := graphUp(t)
		out := text("hello")
		out.Connection.AppSecret = ""
		_, err := a.Send(t.Context(), out)
		assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "no_app_secret", NotTaken: true}, refusalOf(t, err))
		assert.Empty(t, g.Posts())
	})
	t.Run("but not what was hung up on", func(t *testing.T) {
		g, a := graphUp(t)
		g.Fail(func(int, string) standin.Failure { return standin.Failure{HangUp: true} })
		_, err := a.Send(t.Context(), text("hello"))
		assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "no_answer"}, refusalOf(t, err))
		assert.Len(t, g.Posts(), 1, "it was taken")
	})
	t.Run("nor what timed out", func(t *testing.T) {
		g, a := graphUp(t)
		g.Fail(func(int, string) standin.Failure { return standin.Failure{Delay: time.Minute} })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := a.Send(ctx, text("hello"))
		assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "timeout"}, refusalOf(t, err))
	})
	t.Run("an outage refuses without an error of Meta's", func(t *testing.T) {
		g, a := graphUp(t)
		g.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: http.StatusBadGateway} })
		_, err := a.Send(t.Context(), text("hello"))
		assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "http_502"}, refusalOf(t, err))
	})
}

func TestEveryCallIsProvedAndItsTokenIsInNoAddress(t *testing.T) {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(pageToken))
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		assert.Equal(t, hex.EncodeToString(mac.Sum(nil)), r.URL.Query().Get("appsecret_proof"))
		assert.Equal(t, "Bearer "+pageToken, r.Header.Get("Authorization"))
		assert.NotContains(t, r.URL.String(), "CANARY")
		body, _ := io.ReadAll(r.Body)
		assert.NotContains(t, string(body), "CANARY")
		_ = json.NewEncoder(w).Encode(map[string]any{"message_id": "m_1", "first_name": "Ada"})
	}))
	defer server.Close()
	a := New(Config{GraphURL: server.URL + "/", GraphVersion: "v25.0"}, server.Client())
	_, err := a.Send(t.Context(), text("hello"))
	require.NoError(t, err)
	_, err = a.Send(t.Context(), withFile(text(""), "x", "image/png", "png"))
	require.NoError(t, err)
	_, _, err = a.Profile(t.Context(), text("").Connection, channel.Identity{Kind: "psid", Value: page + ":" + ada})
	require.NoError(t, err)
	assert.Equal(t, 3, calls)
}

func TestCheckRefusesBeforeAnyCall(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	with := func(change func(*channel.Outgoing)) *channel.Outgoing {
		out := text("hello")
		change(out)
		return out
	}
	for code, out := range map[string]*channel.Outgoing{
		"no_page_token":  with(func(o *channel.Outgoing) { o.Connection.Credentials = nil }),
		"no_page":        with(func(o *channel.Outgoing) { o.Connection.ExternalID = "me" }),
		"no_address":     with(func(o *channel.Outgoing) { o.To = "730000112233445:" + ada }),
		"no_text":        text(" \n"),
		"too_long":       text(strings.Repeat("é", 2001)),
		"empty_file":     withFile(text(""), "x", "text/plain", ""),
		"file_too_large": with(func(o *channel.Outgoing) { withFile(o, "x", "text/plain", "x").Attachment.Size = largestFile + 1 }),
		"text_and_file": with(func(o *channel.Outgoing) {
			withFile(o, "x", "text/plain", "x").Text = "both"
		}),
	} {
		_, err := a.Send(t.Context(), out)
		e := refusalOf(t, err)
		assert.Equal(t, code, e.Code)
		assert.NotEmpty(t, e.Sentence)
	}
	for _, to := range []string{"", ada, page + ":", page + ":ada", page + ":1/me"} {
		assert.Equal(t, "no_address", refusalOf(t, a.Check(with(func(o *channel.Outgoing) { o.To = to }))).Code, to)
	}
	assert.NoError(t, a.Check(text(strings.Repeat("é", 2000))))
	assert.NoError(t, a.Check(text(strings.Repeat("👋", 1000))))
	assert.Equal(t, "too_long", refusalOf(t, a.Check(text(strings.Repeat("👋", 1001)))).Code)
	for _, part := range channel.Split(strings.Repeat("a word 👋🏽 ", 700), kit(t).Features.TextLimit, kit(t).Features.TextUnit) {
		assert.NoError(t, a.Check(text(part)), "what the mesh splits fits")
	}
}

func TestPaceIsThePages(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	other := text("")
	other.Connection.ExternalID = "730000112233445"
	assert.NotEqual(t, a.Pace(text("")).Key, a.Pace(other).Key)
	assert.Equal(t, 25*time.Millisecond, a.Pace(text("")).Every)
	assert.Equal(t, 25*time.Millisecond, a.Pace(withFile(text(""), "x", "image/png", "x")).Every)
	assert.Equal(t, 100*time.Millisecond, a.Pace(withFile(text(""), "x", "video/mp4", "x")).Every)
}

func TestMediaIsFetchedWithoutCredentials(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	request, err := a.Media(text("").Connection, channel.MediaRef{URL: "https://scontent.xx.fbcdn.net/v/1_n.jpg?oh=03"})
	require.NoError(t, err)
	assert.Equal(t, channel.MediaRequest{URL: "https://scontent.xx.fbcdn.net/v/1_n.jpg?oh=03"}, request)
	for _, address := range []string{"", "file:///etc/passwd", "//x", "%zz"} {
		_, err := a.Media(text("").Connection, channel.MediaRef{URL: address})
		assert.Error(t, err, address)
	}
}

func TestProfiles(t *testing.T) {
	g, a := graphUp(t)
	conn := text("").Connection
	g.Know(ada, standin.GraphPerson{FirstName: "Ada", LastName: "Lovelace", Picture: "https://platform-lookaside.fbsbx.com/1"})
	g.Know("5", standin.GraphPerson{})
	p, ok, err := a.Profile(t.Context(), conn, channel.Identity{Kind: "psid", Value: page + ":" + ada})
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, channel.Profile{Name: "Ada Lovelace", AvatarURL: "https://platform-lookaside.fbsbx.com/1"}, p)
	for _, nobody := range []channel.Identity{
		{Kind: "psid", Value: page + ":404"}, {Kind: "psid", Value: page + ":5"}, {Kind: "psid", Value: page + ":me"}, {Kind: "psid", Value: "1:" + ada}, {Kind: "phone", Value: page + ":" + ada},
	} {
		_, ok, err = a.Profile(t.Context(), conn, nobody)
		assert.NoError(t, err)
		assert.False(t, ok)
	}
	g.Token(page, "EAAanother")
	_, _, err = a.Profile(t.Context(), conn, channel.Identity{Kind: "psid", Value: page + ":" + ada})
	assert.Equal(t, channel.ClassReauthorise, refusalOf(t, err).Class)
}
