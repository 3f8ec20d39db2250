package sms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
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

// keyPair of an application: PEM (PKCS #8, as Vonage gives it), and both halves.
func keyPair(t *testing.T) (text string, private *rsa.PrivateKey, public *rsa.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), key, &key.PublicKey
}

func vonageUp(t *testing.T) (*standin.Vonage, *Adapter, *channel.Connection) {
	t.Helper()
	text, _, public := keyPair(t)
	s, err := standin.NewVonage("127.0.0.1:0", standin.VonageAccount{ApplicationID: "app-1", Key: public}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	cfg := *DefaultConfig()
	cfg.VonageURL = s.URL + "/"
	return s, New(cfg, &http.Client{Timeout: 5 * time.Second}), &channel.Connection{
		ID: "c1", ExternalID: "+41445550100", Settings: map[string]string{"provider": "vonage"},
		Credentials: map[string]string{"application_id": "app-1", "private_key": text, "signature_secret": signatureSecret},
	}
}

func byVonage(conn *channel.Connection, to, text string) *channel.Outgoing {
	now := time.Now()
	return &channel.Outgoing{
		Connection: conn, To: to, Text: text, Now: now, LastInbound: now.Add(-time.Hour), Part: 2, Attempt: 1,
		MessageID: "0196b1b2-0000-8000-8000-000000000001", ConversationKey: "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11",
		CallbackURL: "https://mesh.example/webhooks/sms/c1?a=1&k=k&m=m&p=0",
	}
}

func TestVonageTakesATextAndItsStatusComesHome(t *testing.T) {
	s, a, conn := vonageUp(t)
	sent, err := a.Send(t.Context(), byVonage(conn, "+41791234567", "On its way & <soon> 🚚"))
	require.NoError(t, err)
	require.Len(t, s.Posts(), 1)
	post := s.Posts()[0]
	token, _, err := jwt.NewParser().ParseUnverified(post.Token, jwt.MapClaims{})
	require.NoError(t, err)
	issued, _ := token.Claims.GetIssuedAt()
	expires, _ := token.Claims.GetExpirationTime()
	assert.LessOrEqual(t, expires.Sub(issued.Time), 24*time.Hour, "no longer than Vonage allows")
	post.Token = ""
	assert.Equal(t, standin.VonagePost{
		UUID: sent.ExternalID, Channel: "sms", MessageType: "text", From: "41445550100", To: "41791234567", Text: "On its way & <soon> 🚚",
		ClientRef:  "0196b1b2000080008000000000000001.2.1.6f1d1c1e5a365b0e9c1f7d1f6c0a7b11",
		WebhookURL: "https://mesh.example/webhooks/sms/c1", WebhookVersion: "v1",
	}, post)
	assert.Zero(t, sent.Order, "the order of a text message is when it was received")

	status := standin.VonageStatus(post, "delivered", "", time.Now())
	result, err := a.Normalise(vonageRequest(standin.VonageHeader(signatureSecret, status, time.Now()), status))
	require.NoError(t, err)
	require.Len(t, result.Events, 1)
	assert.Equal(t, &channel.Receipt{
		MessageID: "0196b1b2-0000-8000-8000-000000000001", Part: 2, Attempt: 1, Status: channel.StatusDelivered, ExternalID: sent.ExternalID,
	}, result.Events[0].Receipt)
	assert.Equal(t, "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11", result.Events[0].Thread.ConversationKey)
}

func TestVonagesClientReferenceFits(t *testing.T) {
	out := byVonage(nil, "", "")
	out.Part, out.Attempt = 1<<31-1, 1<<31-1
	assert.LessOrEqual(t, len(clientRef(out)), 100)
}

func TestVonageCarriesFilesByTheirAddress(t *testing.T) {
	for contentType, want := range map[string][2]string{ // of a number, and on WhatsApp
		"image/jpeg": {"image", "image"}, "image/png": {"image", "image"}, "image/webp": {"image", "file"}, "image/heic": {"image", "file"},
		"audio/mpeg": {"audio", "audio"}, "video/mp4": {"video", "video"}, "text/vcard; charset=utf-8": {"vcard", "file"},
		"application/pdf": {"file", "file"}, "": {"file", "file"},
	} {
		t.Run(contentType, func(t *testing.T) {
			s, a, conn := vonageUp(t)
			for i, to := range []string{"+14155550123", "whatsapp:+14155550123"} {
				out := byVonage(conn, to, "")
				out.Attachment = &channel.OutgoingAttachment{Name: "a.x", ContentType: contentType, URL: "https://mesh.example/media/1?sig=x"}
				_, err := a.Send(t.Context(), out)
				require.NoError(t, err)
				post := s.Posts()[i]
				assert.Equal(t, []string{[]string{"mms", "whatsapp"}[i], want[i], "https://mesh.example/media/1?sig=x"}, []string{post.Channel, post.MessageType, post.URL})
				assert.Equal(t, post.MessageType == "file", post.Name == "a.x", "a name only where Vonage takes one")
			}
		})
	}
}

func TestVonageAnswersOnWhatsAppWithAQuote(t *testing.T) {
	s, a, conn := vonageUp(t)
	conn.ExternalID = "whatsapp:+41445550100"
	out := byVonage(conn, "whatsapp:+41791234567", strings.Repeat("é", 4096))
	out.ReplyTo, out.CallbackURL = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab", ""
	_, err := a.Send(t.Context(), out)
	require.NoError(t, err)
	post := s.Posts()[0]
	assert.Equal(t, []string{"whatsapp", "41445550100", "41791234567", out.ReplyTo}, []string{post.Channel, post.From, post.To, post.ReplyTo})
	assert.Empty(t, post.WebhookURL, "without a public address the application's own status URL is used")
}

func TestVonageChecksBeforeAnyCall(t *testing.T) {
	s, a, conn := vonageUp(t)
	with := func(name, value string) *channel.Outgoing {
		c := *conn
		c.Credentials = map[string]string{"application_id": "app-1", "private_key": conn.Credentials["private_key"]}
		c.Credentials[name] = value
		return byVonage(&c, "+41791234567", "hello")
	}
	for name, c := range map[string]struct {
		out   *channel.Outgoing
		class channel.Class
		code  string
	}{
		"no application":       {with("application_id", ""), channel.ClassReauthorise, "no_credentials"},
		"no key":               {with("private_key", ""), channel.ClassReauthorise, "no_credentials"},
		"a key that is none":   {with("private_key", "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----"), channel.ClassReauthorise, "bad_private_key"},
		"a long text":          {byVonage(conn, "+41791234567", strings.Repeat("é", 1001)), channel.ClassReject, "too_long"},
		"long, on WhatsApp":    {byVonage(conn, "whatsapp:+41791234567", strings.Repeat("é", 4097)), channel.ClassReject, "too_long"},
		"a name":               {byVonage(conn, "MyBank", "hello"), channel.ClassReject, "alphanumeric_sender"},
		"nothing":              {byVonage(conn, "+41791234567", ""), channel.ClassReject, "no_text"},
		"the window is closed": {outside(byVonage(conn, "whatsapp:+41791234567", "hello")), channel.ClassWindowClosed, "window_closed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Send(t.Context(), c.out)
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, []string{string(c.class), c.code}, []string{string(e.Class), e.Code})
			assert.NotEmpty(t, e.Sentence)
			assert.NotContains(t, e.Sentence+e.Error(), "CANARY")
		})
	}
	assert.Empty(t, s.Posts())
}

func outside(out *channel.Outgoing) *channel.Outgoing {
	out.LastInbound = out.Now.Add(-24 * time.Hour)
	return out
}

func TestVonagesAnswersAreMappedOnce(t *testing.T) {
	fault := func(code, title string) string {
		return `{"type":"https://developer.vonage.com/api-errors` + code + `","title":"` + title + `","detail":"CANARY 41791234567","instance":"bf0ca0bf"}`
	}
	for name, c := range map[string]struct {
		status           int
		retryAfter, body string
		want             channel.Error // without its sentence
		said             bool
	}{
		"wrong credentials":   {401, "", fault("#unauthorized", "Unauthorized"), channel.Error{Class: channel.ClassReauthorise, Code: "unauthorized"}, true}, //nolint:misspell // Vonage's word
		"401 without a word":  {401, "", "", channel.Error{Class: channel.ClassReauthorise, Code: "http_401"}, true},
		"no credit":           {402, "", fault("#low-balance", "Low balance"), channel.Error{Class: channel.ClassReject, Code: "low-balance"}, true},
		"forbidden":           {403, "", fault("#forbidden", "Forbidden"), channel.Error{Class: channel.ClassReject, Code: "forbidden"}, false},
		"invalid sender":      {422, "", fault("/messages#1120", "Invalid sender"), channel.Error{Class: channel.ClassReject, Code: "1120"}, true},
		"invalid recipient":   {422, "", fault("/messages#1430", "Invalid recipient"), channel.Error{Class: channel.ClassReject, Code: "1430"}, true},
		"opted out":           {422, "", fault("/messages-olympus#1240", "Illegal Number"), channel.Error{Class: channel.ClassOptedOut, Code: "1240"}, true},
		"window closed":       {422, "", fault("/messages#1340", "Outside of the allowed window"), channel.Error{Class: channel.ClassWindowClosed, Code: "1340"}, true},
		"throttled, in a 422": {422, "", fault("/messages#1000", "Throttled"), channel.Error{Class: channel.ClassRetry, Code: "1000", NotTaken: true}, false},
		"a code not known":    {422, "", fault("/messages#9999", "CANARY of 41791234567"), channel.Error{Class: channel.ClassReject, Code: "9999"}, false},
		"too many":            {429, "7", fault("/messages#1010", "Rate Limit Hit"), channel.Error{Class: channel.ClassRetry, Code: "1010", NotTaken: true, RetryAfter: 7 * time.Second}, false},
		"too many, no pause":  {429, "", "busy", channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true}, false},
		"server broken":       {500, "", fault("#internal-error", "Internal error"), channel.Error{Class: channel.ClassRetry, Code: "internal-error"}, false},
		"gateway broken":      {503, "9", "<html>", channel.Error{Class: channel.ClassRetry, Code: "http_503"}, false},
		"sent elsewhere":      {304, "", "", channel.Error{Class: channel.ClassRetry, Code: "http_304"}, false},
		"not Vonage's answer": {200, "", "<html>", channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}, false},
		"an answer cut off":   {202, "", `{"message_uuid":"aaaa`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}, false},
		"an id that is none":  {202, "", `{"message_uuid":"CANARY of +41791234567"}`, channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, conn := vonageUp(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			_, err := New(Config{VonageURL: server.URL}, server.Client()).Send(t.Context(), byVonage(conn, "+41791234567", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.NotContains(t, err.Error()+e.Sentence, "CANARY")
			assert.NotContains(t, err.Error()+e.Sentence, "41791234567")
			assert.Equal(t, c.said, e.Sentence != "", "a sentence where a member can do something: %q", e.Sentence)
			e.Sentence = ""
			assert.Equal(t, c.want, *e)
		})
	}
}

func TestVonagesStandInTakesAnAccountsSecretToo(t *testing.T) {
	s, err := standin.NewVonage("127.0.0.1:0", standin.VonageAccount{APIKey: "abcd1234", APISecret: "secret"}, nil)
	require.NoError(t, err)
	defer s.Close()
	for secret, status := range map[string]int{"secret": http.StatusAccepted, "another": http.StatusUnauthorized} {
		call, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/messages",
			strings.NewReader(`{"channel":"sms","message_type":"text","to":"41791234567","from":"Shop","text":"hello"}`))
		require.NoError(t, err)
		call.SetBasicAuth("abcd1234", secret)
		answer, err := http.DefaultClient.Do(call)
		require.NoError(t, err)
		_ = answer.Body.Close()
		assert.Equal(t, status, answer.StatusCode, secret)
	}
	assert.Len(t, s.Posts(), 1)
}

func TestVonagesStandInRefusesWhatVonageDoes(t *testing.T) {
	s, a, conn := vonageUp(t)
	stranger := *conn
	text, _, _ := keyPair(t)
	stranger.Credentials = map[string]string{"application_id": "app-1", "private_key": text}
	_, err := a.Send(t.Context(), byVonage(&stranger, "+41791234567", "hello"))
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.ClassReauthorise, e.Class, "another's key")

	s.Fail(func(n int, _ string) standin.Failure {
		return standin.Failure{Refuse: []int{429, 503}[n-1], Header: http.Header{"Retry-After": {"3"}}}
	})
	_, err = a.Send(t.Context(), byVonage(conn, "+41791234567", "hello"))
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true, RetryAfter: 3 * time.Second}, *e)
	_, err = a.Send(t.Context(), byVonage(conn, "+41791234567", "hello"))
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "http_503"}, *e, "nobody knows")
	s.Fail(nil)
	_, err = a.Send(t.Context(), byVonage(conn, "+123", "hello"))
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "1430", e.Code)
	assert.Empty(t, s.Posts())
}

func TestWhatVonageNeverGotMayBeSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		failure standin.Failure
		code    string
	}{
		"but not what timed out":           {standin.Failure{Delay: time.Minute}, "timeout"},
		"nor what was taken before a hang": {standin.Failure{HangUp: true}, "no_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s, a, conn := vonageUp(t)
			s.Fail(func(int, string) standin.Failure { return c.failure })
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := a.Send(ctx, byVonage(conn, "+41791234567", "hello"))
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: c.code}, *e)
			assert.Len(t, s.Posts(), 1, "it was taken, once")
		})
	}
	s, a, conn := vonageUp(t)
	require.NoError(t, s.Close())
	_, err := a.Send(t.Context(), byVonage(conn, "+41791234567", "hello"))
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}, *e)
}

func TestSecuredMediaIsAskedForWithAToken(t *testing.T) {
	s, a, conn := vonageUp(t)
	s.Keep("1b456509", standin.Media{ContentType: "image/jpeg", Data: []byte("jpeg")})
	for address, trusted := range map[string]bool{
		"https://api-us.nexmo.com/v3/media/1b456509":  true,
		"https://api-eu.vonage.com/v3/media/1b456509": true,
		s.URL + "/v3/media/1b456509":                  true,
		"http://api-us.nexmo.com/v3/media/1b456509":   false,
		"https://api.nexmo.com.evil.example/x":        false,
		"https://evilnexmo.com/x":                     false,
		"https://api.twilio.com/x":                    false,
	} {
		request, err := a.Media(conn, channel.MediaRef{URL: address})
		require.NoError(t, err)
		assert.Equal(t, trusted, strings.HasPrefix(request.Header.Get("Authorization"), "Bearer ey"), address)
		u, _ := url.Parse(address)
		assert.Equal(t, trusted, len(request.HeaderHosts) == 1 && request.HeaderHosts[0] == u.Host, address)
	}
	request, err := a.Media(conn, channel.MediaRef{URL: s.URL + "/v3/media/1b456509"})
	require.NoError(t, err)
	get, err := http.NewRequestWithContext(t.Context(), http.MethodGet, request.URL, nil)
	require.NoError(t, err)
	bare, err := http.DefaultClient.Do(get)
	require.NoError(t, err)
	defer bare.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, bare.StatusCode)
	get.Header = request.Header
	answer, err := http.DefaultClient.Do(get)
	require.NoError(t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, "jpeg", string(data))
}
