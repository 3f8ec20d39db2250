package email

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"mime"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/media"
)

// submit a mail to the connection's server (RFC 6409), over a connection of its own: a mailbox writes seldom, and a
// connection that is kept is one more way not to know what became of a mail.
func (a *Adapter) submit(ctx context.Context, conn *channel.Connection, m *composed) error {
	message, err := m.message821()
	if err != nil {
		return reject("no_address", "The contact's address or the mailbox's can't be written to.")
	}
	client, err := a.submissionClient(ctx, conn)
	if err != nil {
		return reject("no_server", "The connection's server can't be sent through: look at smtp_host and smtp_port.")
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return dialError(err)
	}
	defer func() { _ = client.CloseWithSMTPClient(session) }() // the mail's fate is known by now
	err = client.SendWithSMTPClient(session, message)
	if message.IsDelivered() { // whatever failed after it
		return nil
	}
	return sendError(ctx, err)
}

// message821 is the mail as go-mail writes it.
func (m *composed) message821() (*mail.Msg, error) {
	message := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(message.FromFormat(m.fromName, m.from), message.To(m.to), message.ReplyTo(m.replyTo)); err != nil {
		return nil, err
	}
	message.SetMessageIDWithValue(m.messageID)
	message.SetDateWithValue(m.at)
	if m.subject != "" {
		message.Subject(m.subject)
	}
	if m.inReplyTo != "" {
		message.SetGenHeader(mail.HeaderInReplyTo, bracketed(m.inReplyTo))
		message.SetGenHeader(mail.HeaderReferences, bracketed(m.references...))
	}
	if m.automatic {
		message.SetGenHeader("Auto-Submitted", "auto-replied")
	}
	message.SetBodyString(mail.TypeTextPlain, m.text)
	if m.html != "" {
		message.AddAlternativeString(mail.TypeTextHTML, m.html)
	}
	for _, f := range m.files {
		message.AttachReadSeeker(f.name, bytes.NewReader(f.data), mail.WithFileContentType(mail.ContentType(f.contentType)), fileNamed(f.name))
	}
	return message, nil
}

// bracketed Message-IDs, as a header field has them.
func bracketed(ids ...string) string {
	var out []byte
	for _, id := range ids {
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = append(out, "<"+id+">"...)
	}
	return string(out)
}

// smtpStep is how long one answer of a submission server may take (RFC 5321, 4.5.3.2, allows minutes; a person waits).
const (
	//bound:timeout connecting to a submission server | {} | tried again
	smtpConnect = 15 * time.Second
	//bound:timeout one mail to a submission server, where its command has no deadline | {} | unknown
	smtpSend = 110 * time.Second
)

func (a *Adapter) submissionClient(ctx context.Context, conn *channel.Connection) (*mail.Client, error) {
	host, security := conn.Settings["smtp_host"], conn.Settings["smtp_tls"]
	port := 587
	if security == "implicit" {
		port = 465
	}
	if set, err := strconv.Atoi(conn.Settings["smtp_port"]); err == nil {
		port = set
	}
	policy := mail.TLSMandatory
	if security == "none" || security == "implicit" {
		policy = mail.NoTLS // nothing is begun on top
	}
	within := smtpSend
	if deadline, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(deadline))
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: a.authorities}
	return mail.NewClient(host, mail.WithPort(port), mail.WithTimeout(max(within, time.Second)), mail.WithTLSPolicy(policy), mail.WithTLSConfig(config),
		mail.WithHELO(a.cfg.Hostname), mail.WithoutNoop(),
		mail.WithSMTPAuthCustom(&login{user: conn.Credentials["smtp_username"], password: conn.Credentials["smtp_password"], plainly: security == "none"}),
		mail.WithDialContextFunc(func(dialCtx context.Context, network, address string) (net.Conn, error) {
			return a.dial(ctx, dialCtx, network, address, security, config)
		}))
}

var errNotLoopback = errors.New("email: without TLS only this machine is sent through")

// dial a server that is public, or in a network that the operator named. The connection ends with ctx.
func (a *Adapter) dial(ctx, dialCtx context.Context, network, address, security string, config *tls.Config) (net.Conn, error) {
	//bound:exempt smtpConnect says it
	dialer := &net.Dialer{Timeout: smtpConnect, Control: media.PublicOnly(a.deps.Inside)}
	conn, err := dialer.DialContext(dialCtx, network, address)
	if err != nil {
		return nil, err
	}
	if security == "none" {
		if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
			conn.Close()
			return nil, errNotLoopback
		}
	}
	if security == "implicit" {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(dialCtx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn, nil
}

// login with what the server offers. A password travels under TLS alone, but on this machine.
type login struct {
	user, password string
	plainly        bool
	smtp.Auth
}

var errNoLogin = errors.New("email: the server offers no way to log in that is known here")

func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		l.Auth = smtp.PlainAuth("", l.user, l.password, server.Name, l.plainly)
	case slices.Contains(server.Auth, "LOGIN"):
		l.Auth = smtp.LoginAuth(l.user, l.password, server.Name, l.plainly)
	case slices.Contains(server.Auth, "CRAM-MD5"):
		l.Auth = smtp.CRAMMD5Auth(l.user, l.password)
	default:
		return "", nil, errNoLogin
	}
	return l.Auth.Start(server)
}

// dialError: nothing was sent yet.
func dialError(err error) *channel.Error {
	var answer *textproto.Error
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, media.ErrForbiddenAddress), errors.Is(err, errNotLoopback):
		return reject("forbidden_address", "The connection's server is not a public one.")
	case errors.Is(err, errNoLogin):
		return reject("no_login", "The connection's server offers no way to log in that is known here.")
	case errors.As(err, &certificate), errors.As(err, &authority):
		return reject("certificate", "The connection's server could not prove that it is the one: its certificate does not hold.")
	case !errors.As(err, &answer):
		return &channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}
	case answer.Code == 530 || answer.Code == 534 || answer.Code == 535:
		return &channel.Error{Class: channel.ClassReauthorise, Code: codeOf(answer.Code, ""), Sentence: "The server no longer accepts this mailbox's user name and password: connect it again."}
	case answer.Code >= 500:
		return &channel.Error{Class: channel.ClassReject, Code: codeOf(answer.Code, ""), Sentence: "The connection's server refuses to be sent through."}
	}
	return &channel.Error{Class: channel.ClassRetry, Code: codeOf(answer.Code, ""), NotTaken: true}
}

// sendError of a server's answer, or of none. Until the last line of the mail has gone out the server has not taken it.
func sendError(ctx context.Context, err error) *channel.Error {
	var failed *mail.SendError
	if !errors.As(err, &failed) {
		return &channel.Error{Class: channel.ClassRetry, Code: "no_answer"}
	}
	code := failed.ErrorCode()
	e := &channel.Error{Class: channel.ClassRetry, Code: codeOf(code, failed.EnhancedStatusCode()), NotTaken: true}
	switch {
	case code >= 500 && (code == 530 || code == 535):
		e.Class, e.NotTaken, e.Sentence = channel.ClassReauthorise, false, "The server no longer accepts this mailbox's user name and password: connect it again."
	case code >= 500:
		e.Class, e.NotTaken = channel.ClassReject, false
		if failed.Reason == mail.ErrSMTPRcptTo {
			e.Sentence = "The server says that this address can't receive mail."
		}
	case code >= 400:
	case failed.Reason == mail.ErrSMTPDataClose: // whether it took the mail nobody knows
		e.Code, e.NotTaken = "no_answer", false
		if ctx.Err() != nil {
			e.Code = "timeout"
		}
	default:
		e.Code = "cut_off"
	}
	return e
}

// codeOf an answer: its enhanced status code (RFC 3463) where it has one.
func codeOf(code int, status string) string {
	if enhanced.MatchString(status) {
		return status
	}
	return "smtp_" + strconv.Itoa(code)
}

// fileNamed gives a file its name as RFC 2231 has it: the library writes encoded words, which RFC 2047 (5) forbids there.
func fileNamed(name string) mail.FileOption {
	return func(f *mail.File) {
		if disposition := mime.FormatMediaType("attachment", map[string]string{"filename": name}); disposition != "" {
			f.Header.Set(mail.HeaderContentDisposition.String(), disposition)
		}
	}
}
