package sms

import (
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
	"tributary.dev/libs/channel/standin"
)

func twilioUp(t *testing.T) (*standin.Twilio, *Adapter) {
	t.Helper()
	s, err := standin.NewTwilio("127.0.0.1:0", "AC1", "CANARYtoken", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, New(Config{TwilioURL: s.URL + "/"}, &http.Client{Timeout: 5 * time.Second})
}

func text(to, text string) *channel.Outgoing {
	return &channel.Outgoing{
		Connection: &channel.Connection{
			ID: "c1", ExternalID: "+14155550100", Credentials: map[string]string{"account_sid": "AC1", "auth_token": "CANARYtoken"},
		},
		To: to, Text: text, Now: received0, LastInbound: received0.Add(-23 * time.Hour), CallbackURL: "https://mesh.example/webhooks/sms/c1?a=1&k=k&m=m&p=0",
	}
}

func TestATextGoesOutWithItsCallback(t *testing.T) {
	s, a := twilioUp(t)
	sent, err := a.Send(t.Context(), text("+14155550123", "On its way & <soon> 🚚"))
	require.NoError(t, err)
	require.Len(t, s.Posts(), 1)
	assert.Equal(t, standin.TwilioPost{
		SID: sent.ExternalID, From: "+14155550100", To: "+14155550123", Body: "On its way & <soon> 🚚",
		StatusCallback: "https://mesh.example/webhooks/sms/c1?a=1&k=k&m=m&p=0",
	}, s.Posts()[0])
	assert.Zero(t, sent.Order, "Twilio's events carry no time either")
}

func TestWhatsAppIsAnsweredOnWhatsApp(t *testing.T) {
	s, a := twilioUp(t)
	_, err := a.Send(t.Context(), text("whatsapp:+14155550123", "hello"))
	require.NoError(t, err)
	assert.Equal(t, "whatsapp:+14155550100", s.Posts()[0].From)
	assert.Equal(t, "whatsapp:+14155550123", s.Posts()[0].To)
}

func TestAFileGoesByItsAddress(t *testing.T) {
	s, a := twilioUp(t)
	out := text("+14155550123", "")
	out.Attachment = &channel.OutgoingAttachment{Name: "a.jpg", Size: 1, URL: "https://mesh.example/media/1?sig=x"}
	_, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	assert.Equal(t, []string{"https://mesh.example/media/1?sig=x"}, s.Posts()[0].MediaURL)
}

func TestCheckRefusesBeforeAnyCall(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	file := text("+14155550123", "")
	file.Attachment = &channel.OutgoingAttachment{Name: "a.jpg", Size: 1}
	nobody := text("+14155550123", "hello")
	nobody.Connection = &channel.Connection{}
	pigeon := text("+14155550123", "hello")
	pigeon.Connection.Settings = map[string]string{"provider": "carrier-pigeon"}
	never, late := text("whatsapp:+14155550123", "hello"), outside(text("whatsapp:+14155550123", ""))
	never.LastInbound = time.Time{}
	sized := func(to string, size int64) *channel.Outgoing {
		out := text(to, "")
		out.Attachment = &channel.OutgoingAttachment{Size: size, URL: "https://mesh.example/media/1?sig=x"}
		return out
	}
	late.Attachment = &channel.OutgoingAttachment{URL: "https://mesh.example/media/1?sig=x"}
	for name, c := range map[string]struct {
		out  *channel.Outgoing
		code string
	}{
		"a name":             {text("MyBank", "hello"), "alphanumeric_sender"},
		"a name on whatsapp": {text("whatsapp:MyBank", "hello"), "alphanumeric_sender"},
		"nobody":             {text("", "hello"), "no_address"},
		"nothing to say":     {text("+14155550123", " "), "no_text"},
		"too long":           {text("+14155550123", strings.Repeat("é", 1601)), "too_long"},
		"no public address":  {file, "no_public_url"},
		"no credentials":     {nobody, "no_credentials"},
		"another provider":   {pigeon, "unknown_provider"},
		"a day later":        {outside(text("whatsapp:+14155550123", "hello")), "window_closed"},
		"never written to":   {never, "window_closed"},
		"a file, too late":   {late, "window_closed"},
		"a large file":       {sized("+14155550123", 5<<20+1), "too_large"},
		"large for WhatsApp": {sized("whatsapp:+14155550123", 16<<20+1), "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Send(t.Context(), c.out)
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.code, e.Code)
			assert.NotEmpty(t, e.Sentence)
		})
	}
	assert.NoError(t, a.Check(text("73837", strings.Repeat("é", 1600))), "a short code can be answered")
	assert.NoError(t, a.Check(sized("+14155550123", 5<<20)))
	assert.NoError(t, a.Check(sized("whatsapp:+14155550123", 16<<20)))
	assert.NoError(t, a.Check(outside(text("+14155550123", "hello"))), "text messages have no window")
}

func TestAnswersAreMappedOnce(t *testing.T) {
	rest := func(code, status string) string {
		return `{"code":` + code + `,"message":"CANARY +14155550123","more_info":"https://www.twilio.com/docs/errors/` + code + `","status":` + status + `}`
	}
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		body       string
		want       channel.Error // without its sentence
	}{
		"wrong credentials":   {401, "", rest("20003", "401"), channel.Error{Class: channel.ClassReauthorise, Code: "20003"}},
		"401 without a code":  {401, "", "", channel.Error{Class: channel.ClassReauthorise, Code: "http_401"}},
		"too many":            {429, "7", rest("20429", "429"), channel.Error{Class: channel.ClassRetry, Code: "20429", NotTaken: true, RetryAfter: 7 * time.Second}},
		"too many, no pause":  {429, "", "busy", channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true}},
		"too many, in a 400":  {400, "", rest("21611", "400"), channel.Error{Class: channel.ClassRetry, Code: "21611", NotTaken: true}},
		"opted out":           {400, "", rest("21610", "400"), channel.Error{Class: channel.ClassOptedOut, Code: "21610"}},
		"no such number":      {400, "", rest("21211", "400"), channel.Error{Class: channel.ClassReject, Code: "21211"}},
		"a landline":          {400, "", rest("21614", "400"), channel.Error{Class: channel.ClassReject, Code: "21614"}},
		"window closed":       {400, "", rest("63016", "400"), channel.Error{Class: channel.ClassWindowClosed, Code: "63016"}},
		"a code not known":    {400, "", rest("99999", "400"), channel.Error{Class: channel.ClassReject, Code: "99999"}},
		"forbidden":           {403, "", rest("20403", "403"), channel.Error{Class: channel.ClassReject, Code: "20403"}},
		"server broken":       {503, "", rest("20503", "503"), channel.Error{Class: channel.ClassRetry, Code: "20503"}},
		"gateway broken":      {502, "", "<html>", channel.Error{Class: channel.ClassRetry, Code: "http_502"}},
		"sent elsewhere":      {304, "", "", channel.Error{Class: channel.ClassRetry, Code: "http_304"}},
		"not Twilio's answer": {200, "", "<html>", channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
		"an answer cut off":   {201, "", `{"sid":"SM1`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			_, err := New(Config{TwilioURL: server.URL}, server.Client()).Send(t.Context(), text("+14155550123", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.NotContains(t, err.Error()+e.Sentence, "CANARY")
			assert.NotContains(t, err.Error()+e.Sentence, "4155550123")
			e.Sentence = ""
			assert.Equal(t, c.want, *e)
		})
	}
}

func TestWhatNeverLeftMayBeSentAgain(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	for name, url := range map[string]string{"nobody listens": gone.URL, "another than Twilio answers": untrusted.URL, "no such name": "http://twilio.invalid"} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{TwilioURL: url}, &http.Client{Timeout: 5 * time.Second}).Send(t.Context(), text("+14155550123", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}, *e)
		})
	}
	for name, c := range map[string]struct {
		failure standin.Failure
		code    string
	}{
		"but not what timed out":           {standin.Failure{Delay: time.Minute}, "timeout"},
		"nor what was taken before a hang": {standin.Failure{HangUp: true}, "no_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := twilioUp(t)
			s.Fail(func(int, string) standin.Failure { return c.failure })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := a.Send(ctx, text("+14155550123", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: c.code}, *e)
			assert.Len(t, s.Posts(), 1, "it was taken, once")
		})
	}
}

func TestPaceIsTheNumbers(t *testing.T) {
	a := New(*DefaultConfig(), nil)
	out := text("+14155550123", "")
	assert.Equal(t, channel.Pace{Key: "+14155550100", Every: time.Second, Burst: 1}, a.Pace(out))
	for setting, every := range map[string]time.Duration{"10": 100 * time.Millisecond, "0.5": 2 * time.Second, "0": time.Second, "-1": time.Second, "NaN": time.Second, "1e99": time.Second, "many": time.Second} {
		out.Connection.Settings = map[string]string{"messages_per_second": setting}
		assert.Equal(t, every, a.Pace(out).Every, setting)
	}
}

func TestTheCredentialsGoToTwilioAlone(t *testing.T) {
	s, a := twilioUp(t)
	conn := text("", "").Connection
	for url, trusted := range map[string]bool{
		"https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1": true,
		"https://api.ie1.twilio.com/x":                                          true,
		s.URL + "/media/a.jpg":                                                  true,
		"http://api.twilio.com/x":                                               false,
		"https://api.twilio.com.evil.example/x":                                 false,
		"https://eviltwilio.com/x":                                              false,
		"https://media.twiliocdn.com/AC1/signed":                                false,
	} {
		request, err := a.Media(conn, channel.MediaRef{URL: url})
		require.NoError(t, err)
		assert.Equal(t, url, request.URL)
		if !trusted {
			assert.Empty(t, request.Header, url)
			continue
		}
		user, password, ok := (&http.Request{Header: request.Header}).BasicAuth()
		assert.True(t, ok && user == "AC1" && password == "CANARYtoken", url)
		require.Len(t, request.HeaderHosts, 1)
		assert.Contains(t, url, request.HeaderHosts[0])
	}
	for _, url := range []string{"", "ftp://api.twilio.com/x", "%zz"} {
		_, err := a.Media(conn, channel.MediaRef{URL: url})
		assert.Error(t, err, url)
	}
	_, ok, err := a.Profile(t.Context(), conn, channel.Identity{})
	assert.NoError(t, err)
	assert.False(t, ok)
}
