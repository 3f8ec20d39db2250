package email

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

const (
	connectionID = "0196b1b2-0000-7000-8000-0000000000c1"
	messageID    = "0196b1b2-0000-7000-8000-000000000001"
	conversation = "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11"
)

// outgoing is an answer with a file, over provider.
func outgoing(provider string) *channel.Outgoing {
	return &channel.Outgoing{
		Connection: &channel.Connection{
			ID: connectionID, ExternalID: "help@shop.example", Settings: map[string]string{"provider": provider, "from_name": "Shop, Hilfe & more"},
			Credentials: map[string]string{"server_token": "token", "webhook_secret": "webhook-secret", "smtp_username": "help", "smtp_password": "secret"},
		},
		MessageID: messageID, Attempt: 2, ConversationKey: conversation, To: "ada@example.com", Text: "It is on its way.\n\n<Grüße>\nShop",
		Subject: "Re: Wo ist\r\nBcc: x@example.com", References: []string{"first@mail.example.com", "second@mail.example.com"}, ByMember: true,
		Now: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC),
		Attachments: []*channel.OutgoingAttachment{{Name: "Rechnung März.pdf", ContentType: "application/pdf", Size: 9, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("%PDF-1.4\n")), nil
		}}},
	}
}

// submission starts a submission server and gives an adapter that trusts it, and how to reach it.
func submission(t *testing.T) (*standin.SMTP, *Adapter, *channel.Outgoing) {
	t.Helper()
	authority, err := standin.NewAuthority()
	require.NoError(t, err)
	server, err := standin.NewSMTP("127.0.0.1:0", "help", "secret", authority)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, authority.PEM(), 0o600))
	out := outgoing("smtp")
	out.Connection.Settings["smtp_host"], out.Connection.Settings["smtp_port"] = server.Host(), server.Port()
	return server, made(t, func(c *Config, d *Deps) {
		c.SMTPAuthorities = file
		d.Inside = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}), out
}

// sent is the answer of Send, in time.
func sent(t *testing.T, a *Adapter, out *channel.Outgoing) (channel.Sent, *channel.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := a.Send(ctx, out)
	if err == nil {
		return s, nil
	}
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	return s, e
}

func TestAnAnswerLeavesThroughASubmissionServer(t *testing.T) {
	server, a, out := submission(t)
	s, fault := sent(t, a, out)
	require.Nil(t, fault)
	mails := server.Mails()
	require.Len(t, mails, 1)
	assert.True(t, mails[0].TLS)
	assert.Equal(t, "help@shop.example", mails[0].From)
	assert.Equal(t, []string{"ada@example.com"}, mails[0].To)

	l, err := readMail(mails[0].Data)
	require.NoError(t, err)
	k := a.keyed(connectionID)
	assert.Equal(t, messageID+".0.2."+k.token(conversation)+"@shop.example", l.messageID)
	assert.Equal(t, k.mail(l.messageID), s.ExternalID, "what bounces and answers call it")
	assert.Equal(t, []string{"second@mail.example.com"}, l.inReplyTo)
	assert.Equal(t, []string{"first@mail.example.com", "second@mail.example.com"}, l.references)
	assert.Equal(t, "Re: Wo ist Bcc: x@example.com", l.subject, "no line end of a subject begins a field")
	assert.Empty(t, l.header.Get("Bcc"))
	assert.Empty(t, l.header.Get("Auto-Submitted"), "a member wrote it")
	assert.Equal(t, "Shop, Hilfe & more", l.fromName)
	assert.Equal(t, "It is on its way.\n\n<Grüße>\nShop", strings.TrimSpace(l.text))
	assert.Contains(t, l.html, "<p>&lt;Grüße&gt;<br>")
	assert.NotContains(t, l.html, "<img", "nothing in it tells that it was read")
	assert.True(t, strings.HasPrefix(l.header.Get("Content-Type"), "multipart/mixed"))
	require.Len(t, l.files, 1)
	assert.Equal(t, file{name: "Rechnung März.pdf", contentType: "application/pdf", data: []byte("%PDF-1.4\n")}, l.files[0])
	assert.Contains(t, string(mails[0].Data), "filename*=utf-8''Rechnung%20M%C3%A4rz.pdf", "RFC 2231")
	got, ok := k.tagged(addressesOf(addresses(l.header.Get("Reply-To")))[0])
	assert.True(t, ok)
	assert.Equal(t, conversation, got, "an answer to it comes home by its address")
	assert.Equal(t, "Sat, 14 Mar 2026 15:09:26 +0000", l.date)

	out.ByMember = false
	_, fault = sent(t, a, out)
	require.Nil(t, fault)
	l, err = readMail(server.Mails()[1].Data)
	require.NoError(t, err)
	assert.Equal(t, "auto-replied", l.header.Get("Auto-Submitted"))
}

func TestWhatASubmissionServerSaysIsAClass(t *testing.T) {
	for name, c := range map[string]struct {
		command string
		failure standin.SMTPFailure
		change  func(*channel.Outgoing)
		want    channel.Error
		taken   bool
	}{
		"busy at once":              {command: "MAIL", failure: standin.SMTPFailure{Refuse: 451, Status: "4.3.0"}, want: channel.Error{Class: channel.ClassRetry, Code: "4.3.0", NotTaken: true}},
		"greylisted":                {command: "RCPT", failure: standin.SMTPFailure{Refuse: 450}, want: channel.Error{Class: channel.ClassRetry, Code: "smtp_450", NotTaken: true}},
		"no such person":            {command: "RCPT", failure: standin.SMTPFailure{Refuse: 550, Status: "5.1.1"}, want: channel.Error{Class: channel.ClassReject, Code: "5.1.1", Sentence: "The server says that this address can't receive mail."}},
		"sender refused":            {command: "MAIL", failure: standin.SMTPFailure{Refuse: 553, Status: "5.7.1"}, want: channel.Error{Class: channel.ClassReject, Code: "5.7.1"}},
		"DATA refused":              {command: "DATA", failure: standin.SMTPFailure{Refuse: 452, Status: "4.2.2"}, want: channel.Error{Class: channel.ClassRetry, Code: "4.2.2", NotTaken: true}},
		"the mail refused":          {command: "DOT", failure: standin.SMTPFailure{Refuse: 554, Status: "5.6.0"}, want: channel.Error{Class: channel.ClassReject, Code: "5.6.0"}},
		"the mail put off":          {command: "DOT", failure: standin.SMTPFailure{Refuse: 451, Status: "4.6.0"}, want: channel.Error{Class: channel.ClassRetry, Code: "4.6.0", NotTaken: true}},
		"no answer to the mail":     {command: "DOT", failure: standin.SMTPFailure{HangUp: true}, want: channel.Error{Class: channel.ClassRetry, Code: "no_answer"}, taken: true},
		"hung up before the mail":   {command: "MAIL", failure: standin.SMTPFailure{HangUp: true}, want: channel.Error{Class: channel.ClassRetry, Code: "cut_off", NotTaken: true}},
		"hung up at the beginning":  {command: "EHLO", failure: standin.SMTPFailure{HangUp: true}, want: channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}},
		"a fault after it was sent": {command: "RSET", failure: standin.SMTPFailure{Refuse: 421}, taken: true},
		"login put off":             {command: "AUTH", failure: standin.SMTPFailure{Refuse: 454}, want: channel.Error{Class: channel.ClassRetry, Code: "smtp_454", NotTaken: true}},
		"no TLS": {command: "STARTTLS", failure: standin.SMTPFailure{Refuse: 502}, want: channel.Error{Class: channel.ClassReject, Code: "smtp_502",
			Sentence: "The connection's server refuses to be sent through."}},
		"another's password": {change: func(o *channel.Outgoing) { o.Connection.Credentials["smtp_password"] = "CANARY" }, want: channel.Error{Class: channel.ClassReauthorise,
			Code: "smtp_535", Sentence: "The server no longer accepts this mailbox's user name and password: connect it again."}},
		"nobody there": {change: func(o *channel.Outgoing) { o.Connection.Settings["smtp_port"] = "1" }, want: channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}},
		"a certificate of another name": {change: func(o *channel.Outgoing) { o.Connection.Settings["smtp_host"] = "localhost" }, want: channel.Error{Class: channel.ClassReject,
			Code: "certificate", Sentence: "The connection's server could not prove that it is the one: its certificate does not hold."}},
	} {
		t.Run(name, func(t *testing.T) {
			server, a, out := submission(t)
			server.Fail(func(_ int, command string) standin.SMTPFailure {
				if command == c.command {
					return c.failure
				}
				return standin.SMTPFailure{}
			})
			if c.change != nil {
				c.change(out)
			}
			_, fault := sent(t, a, out)
			if c.want.Class == "" {
				assert.Nil(t, fault)
			} else if assert.NotNil(t, fault) {
				assert.Equal(t, c.want, *fault)
			}
			assert.Equal(t, c.taken, len(server.Mails()) == 1)
		})
	}
}

func TestASubmissionServerIsPublicAndProvesItself(t *testing.T) {
	_, a, out := submission(t)
	a.deps.Inside = nil
	_, fault := sent(t, a, out)
	require.NotNil(t, fault)
	assert.Equal(t, "forbidden_address", fault.Code, "a workspace does not reach what lies inside")

	_, a, out = submission(t)
	a.authorities = nil
	_, fault = sent(t, a, out)
	require.NotNil(t, fault)
	assert.Equal(t, "certificate", fault.Code, "an authority that nobody knows proves nothing")

	plain, err := standin.NewSMTP("127.0.0.1:0", "help", "secret", nil)
	require.NoError(t, err)
	defer plain.Close()
	out.Connection.Settings["smtp_port"] = plain.Port()
	_, fault = sent(t, a, out)
	require.NotNil(t, fault)
	assert.Empty(t, plain.Mails(), "without TLS no password leaves")
	out.Connection.Settings["smtp_tls"] = "none"
	_, fault = sent(t, a, out)
	require.Nil(t, fault, "on this machine it may, where its setting says so")
	assert.Len(t, plain.Mails(), 1)
}

func TestAnAnswerLeavesThroughPostmark(t *testing.T) {
	postmark, err := standin.NewPostmark("127.0.0.1:0", "token")
	require.NoError(t, err)
	defer postmark.Close()
	a := made(t, func(c *Config, d *Deps) {
		c.PostmarkURL, d.HTTP = postmark.URL, &http.Client{Timeout: 10 * time.Second}
	})
	k, out := a.keyed(connectionID), outgoing("postmark")
	s, fault := sent(t, a, out)
	require.Nil(t, fault)
	require.Len(t, postmark.Mails(), 1)
	m := postmark.Mails()[0]
	assert.Equal(t, `"Shop, Hilfe & more" <help@shop.example>`, m.From)
	assert.Equal(t, "<"+messageID+".0.2."+k.token(conversation)+"@shop.example>", m.Header("Message-ID"))
	assert.Equal(t, "true", m.Header("X-PM-KeepID"), "Postmark would give it an id of its own")
	assert.Equal(t, "<second@mail.example.com>", m.Header("In-Reply-To"))
	assert.Equal(t, "<first@mail.example.com> <second@mail.example.com>", m.Header("References"))
	assert.Empty(t, m.Header("Auto-Submitted"))
	assert.False(t, m.TrackOpens)
	assert.Equal(t, "None", m.TrackLinks)
	assert.Equal(t, "outbound", m.MessageStream)
	assert.Equal(t, map[string]string{"m": messageID, "p": "0", "a": "2", "k": conversation}, m.Metadata)
	assert.Equal(t, []standin.PostmarkFile{{Name: "Rechnung März.pdf", ContentType: "application/pdf", Content: []byte("%PDF-1.4\n")}}, m.Attachments)
	got, ok := k.tagged(m.ReplyTo)
	assert.True(t, ok)
	assert.Equal(t, conversation, got)
	assert.Equal(t, k.mail(messageID+".0.2."+k.token(conversation)+"@shop.example"), s.ExternalID)

	result, err := a.Normalise(&channel.Request{Ref: connectionID, Header: standin.PostmarkAuthorisation("x"), Body: standin.PostmarkRecord("Bounce", "HardBounce", m)})
	require.NoError(t, err)
	require.Len(t, result.Events, 1)
	assert.Equal(t, channel.Receipt{MessageID: messageID, Attempt: 2, Status: channel.StatusFailed, Class: channel.ClassReject, Code: "hardbounce"}, *result.Events[0].Receipt)
	assert.Equal(t, conversation, result.Events[0].Thread.ConversationKey)

	out.Text, out.ByMember = "", false
	_, fault = sent(t, a, out)
	require.Nil(t, fault)
	assert.Equal(t, "Rechnung März.pdf", postmark.Mails()[1].TextBody, "Postmark takes no mail without a body")
	assert.Equal(t, "auto-replied", postmark.Mails()[1].Header("Auto-Submitted"))
}

func TestWhatPostmarkSaysIsAClass(t *testing.T) {
	for name, c := range map[string]struct {
		code     int
		fault    standin.Failure
		token    string
		want     channel.Class
		wantCode string
		notTaken bool
	}{
		"inactive":           {code: 406, want: channel.ClassReject, wantCode: "406"},
		"invalid":            {code: 300, want: channel.ClassReject, wantCode: "300"},
		"sender unconfirmed": {code: 401, want: channel.ClassReject, wantCode: "401"},
		"maintenance":        {code: 100, want: channel.ClassRetry, wantCode: "100", notTaken: true},
		"wrong token":        {token: "other", want: channel.ClassReauthorise, wantCode: "10"},
		"too fast":           {fault: standin.Failure{Refuse: 429, Header: http.Header{"Retry-After": {"3"}}}, want: channel.ClassRetry, wantCode: "http_429", notTaken: true},
		"broken":             {fault: standin.Failure{Refuse: 500}, want: channel.ClassRetry, wantCode: "http_500"},
		"no answer":          {fault: standin.Failure{HangUp: true}, want: channel.ClassRetry, wantCode: "no_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			postmark, err := standin.NewPostmark("127.0.0.1:0", "token")
			require.NoError(t, err)
			defer postmark.Close()
			postmark.Refuse("ada@example.com", c.code)
			postmark.Fail(func(int, string) standin.Failure { return c.fault })
			a := made(t, func(cfg *Config, d *Deps) {
				cfg.PostmarkURL, d.HTTP = postmark.URL, &http.Client{Timeout: 10 * time.Second}
			})
			out := outgoing("")
			if c.token != "" {
				out.Connection.Credentials["server_token"] = c.token
			}
			_, fault := sent(t, a, out)
			require.NotNil(t, fault)
			assert.Equal(t, c.want, fault.Class)
			assert.Equal(t, c.wantCode, fault.Code)
			assert.Equal(t, c.notTaken, fault.NotTaken)
			if c.wantCode == "http_429" {
				assert.Equal(t, 3*time.Second, fault.RetryAfter)
			}
		})
	}
}

func TestWhatMailCanNotDoIsRefusedBeforeTheCall(t *testing.T) {
	a := made(t, nil)
	for want, change := range map[string]func(*channel.Outgoing){
		"no_address":       func(o *channel.Outgoing) { o.To = "" },
		"own_address":      func(o *channel.Outgoing) { o.To = "Help+x@shop.example" },
		"nothing_to_send":  func(o *channel.Outgoing) { o.Text, o.Attachments = " \n", nil },
		"too_large":        func(o *channel.Outgoing) { o.Attachments[0].Size = 25 << 20 },
		"no_credentials":   func(o *channel.Outgoing) { o.Connection.Credentials = nil },
		"no_server":        func(o *channel.Outgoing) { o.Connection.Settings["smtp_host"] = "" },
		"unknown_provider": func(o *channel.Outgoing) { o.Connection.Settings["provider"] = "pigeon" },
	} {
		out := outgoing("smtp")
		out.Connection.Settings["smtp_host"] = "smtp.example"
		require.NoError(t, a.Check(out))
		change(out)
		err := a.Check(out)
		var e *channel.Error
		if assert.ErrorAs(t, err, &e, want) {
			assert.Equal(t, want, e.Code)
			assert.NotEmpty(t, e.Sentence)
		}
	}
	out := outgoing("postmark")
	out.Attachments[0].Size = 8_000_000
	assert.ErrorContains(t, a.Check(out), "too_large", "Postmark counts after base64")
}

func TestAFileThatCanNotBeReadIsNoMail(t *testing.T) {
	_, a, out := submission(t)
	out.Attachments[0].Open = func(context.Context) (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }
	_, fault := sent(t, a, out)
	require.NotNil(t, fault)
	assert.Equal(t, "attachment_unavailable", fault.Code)
	assert.True(t, fault.NotTaken)
	out.Attachments[0].Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(make([]byte, maxOutgoing+2))), nil
	}
	_, fault = sent(t, a, out)
	require.NotNil(t, fault, "one that grew")
}

func TestPaceIsTheConnectionsSetting(t *testing.T) {
	out := outgoing("smtp")
	assert.Zero(t, made(t, nil).Pace(out).Every)
	out.Connection.Settings["messages_per_second"] = "4"
	assert.Equal(t, channel.Pace{Key: "help@shop.example", Every: 250 * time.Millisecond, Burst: 1}, made(t, nil).Pace(out))
}
