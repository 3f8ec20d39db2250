package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"

	"tributary.dev/libs/channel"
)

// What a client of the listener may ask for.
const (
	//bound:limit a mail that comes by SMTP | {bytes} | 552
	maxMail = 35 << 20
	//bound:limit recipients of a mail that comes by SMTP | {} | 452; the client sends to the others by itself
	maxRecipients = 100
	//bound:limit all mails that are being taken in by SMTP | {bytes} | 452; the client tries again
	mailMemory = 256 << 20
	//bound:timeout a silent client of the listener | {} | 421
	smtpSilence = time.Minute
	//bound:timeout one mail of a client, from its first byte | {} | 451
	smtpMail = 10 * time.Minute
	//bound:timeout a client of the listener, however busy | {} | cut off; it comes again
	smtpClient = 30 * time.Minute
	//bound:limit a line of what comes by SMTP | {bytes} | 554
	smtpLine = 256 << 10 // many send lines that are longer than they may be
	//bound:timeout clients that still send when the service stops | {} | cut off; they try again
	smtpStop = 5 * time.Second
)

// Listen takes mail in by SMTP or LMTP until ctx ends; without an address it only waits.
func (a *Adapter) Listen(ctx context.Context, inlet channel.Inlet) error {
	if a.cfg.Address == "" {
		<-ctx.Done()
		return nil
	}
	listener := a.listener.Swap(nil)
	if listener == nil { // it ended before its time
		var err error
		if listener, err = a.listen(); err != nil {
			return err
		}
	}
	return a.serve(ctx, listener, inlet)
}

func (a *Adapter) listen() (*net.TCPListener, error) {
	listener, err := net.Listen("tcp", a.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("TRIBUTARY_EMAIL_SMTP_ADDRESS: %w", err)
	}
	return listener.(*net.TCPListener), nil
}

// serve on a listener, and close it.
func (a *Adapter) serve(ctx context.Context, listener net.Listener, inlet channel.Inlet) error {
	//bound:limit mails in memory that came by SMTP | {bytes mailMemory} | 452
	memory := semaphore.NewWeighted(mailMemory)
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{ctx: ctx, adapter: a, inlet: inlet, conn: c, memory: memory}, nil
	}))
	server.Domain, server.LMTP, server.EnableSMTPUTF8 = a.cfg.Hostname, a.cfg.LMTP, true
	server.MaxMessageBytes = maxMail     //bound:exempt maxMail says it
	server.MaxRecipients = maxRecipients //bound:exempt maxRecipients says it
	server.MaxLineLength = smtpLine      //bound:exempt smtpLine says it
	server.ReadTimeout = smtpSilence     //bound:exempt smtpSilence says it
	server.WriteTimeout = smtpSilence    //bound:exempt smtpSilence says it
	server.ErrorLog = silent{}
	if a.certificate != nil {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.certificate.get}
	}
	serving, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	//bound:goroutines who stops the listener | one | it ends with the listener
	go func() {
		defer close(ended)
		<-serving.Done()
		//bound:exempt smtpStop says it
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), smtpStop)
		defer cancel()
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
	}()
	err := server.Serve(netutil.LimitListener(mortal{listener}, a.cfg.Connections))
	end()
	<-ended
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// mortal ends each client's connection in the end.
type mortal struct{ net.Listener }

func (m mortal) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	//bound:exempt smtpClient says it
	return &mortalConn{conn, time.AfterFunc(smtpClient, func() { conn.Close() })}, nil
}

type mortalConn struct {
	net.Conn
	end *time.Timer
}

func (c *mortalConn) Close() error {
	c.end.Stop()
	return c.Conn.Close()
}

// silent: what go-smtp would log names clients' addresses.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// session is one client's, and knows one mail at a time.
type session struct {
	ctx     context.Context
	adapter *Adapter
	inlet   channel.Inlet
	conn    *smtp.Conn
	memory  *semaphore.Weighted

	from string
	//bound:exempt no more than maxRecipients
	recipients []recipient
	held       int64 // bytes of memory
}

// recipient of ours: address is as the client wrote it.
type recipient struct {
	address string
	account *channel.Connection
}

var _ smtp.LMTPSession = (*session)(nil)

// Answers, with their enhanced codes (RFC 3463). None repeats what the client said.
var (
	errNobody    = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox here"}
	errNotNow    = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Not available for now, try again"}
	errFull      = &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Too much mail at once, try again"}
	errNoLetter  = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "This is no mail that can be read"}
	errCutShort  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "The mail did not come in time"}
	errNoAddress = &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: "This is no address"}
)

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt takes mailboxes that are connected, with any tag, and no others: it relays nothing.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	address, ok := address(to)
	if !ok {
		return errNoAddress
	}
	for _, mailbox := range []string{address, untagged(address)} {
		account, ok, err := s.inlet.Account(s.ctx, mailbox)
		if err != nil {
			return errNotNow
		}
		if ok {
			s.recipients = append(s.recipients, recipient{to, account})
			return nil
		}
	}
	return errNobody
}

// Data gives one answer for all recipients: where one mailbox could not take the mail, it comes again for all, and
// those that have it know it.
func (s *session) Data(r io.Reader) error {
	outcomes, err := s.take(r)
	for _, one := range outcomes {
		if one != nil && (err == nil || isTemporary(one)) {
			err = one
		}
	}
	return answer(err)
}

// LMTPData gives each recipient its own answer (RFC 2033, 4.2).
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	outcomes, err := s.take(r)
	if err != nil {
		return answer(err)
	}
	for _, to := range s.recipients {
		status.SetStatus(to.address, answer(outcomes[to.account.ID]))
	}
	return nil
}

// answer is what go-smtp writes: no text but ours.
func answer(err error) error {
	var known *smtp.SMTPError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	}
	return errNotNow
}

func isTemporary(err error) bool {
	var known *smtp.SMTPError
	return !errors.As(err, &known) || known.Code < 500
}

// take the mail for each mailbox once; outcomes are by connection. An error concerns all.
func (s *session) take(r io.Reader) (outcomes map[string]error, err error) {
	defer s.release()
	raw, err := s.read(r)
	if err != nil {
		return nil, err
	}
	outcomes = map[string]error{}
	for _, to := range s.recipients {
		if _, done := outcomes[to.account.ID]; !done {
			outcomes[to.account.ID] = s.takeFor(raw, to.account)
		}
	}
	return outcomes, nil
}

func (s *session) takeFor(raw []byte, account *channel.Connection) error {
	l, err := readMail(raw)
	if err != nil {
		return errNoLetter
	}
	l.nullSender = s.from == ""
	l.technical = s.client()
	for _, to := range s.recipients {
		if to.account.ID == account.ID {
			if address, ok := address(to.address); ok {
				l.to = append([]string{address}, l.to...)
			}
		}
	}
	if from, ok := address(s.from); ok && l.from == "" {
		l.from = from
	}
	result := l.result(s.adapter.keyed(account.ID), account.ExternalID, account.Settings)
	if len(result.Events) == 0 && len(result.Faults) > 0 {
		return errNoLetter // its sender learns of it; nobody else would
	}
	if s.inlet.Take(s.ctx, account, result) != nil {
		return errNotNow
	}
	return nil
}

// client is what is known of who delivers.
func (s *session) client() map[string]string {
	client := map[string]string{"helo": cut(clean(s.conn.Hostname()), maxName), "tls": "no"}
	if host, _, err := net.SplitHostPort(s.conn.Conn().RemoteAddr().String()); err == nil {
		client["ip"] = host
	}
	if _, ok := s.conn.TLSConnectionState(); ok {
		client["tls"] = "yes"
	}
	return client
}

// read the mail, as far as there is memory and time. go-smtp gives the whole of it the time of one command; here each
// piece has that.
func (s *session) read(r io.Reader) ([]byte, error) {
	const step = 16 << 10
	ends := time.Now().Add(smtpMail)
	var raw []byte //bound:exempt memory is asked for all of it
	buffer := make([]byte, step)
	for {
		now := time.Now()
		if err := s.conn.Conn().SetReadDeadline(now.Add(min(smtpSilence, ends.Sub(now)))); err != nil {
			return nil, errCutShort
		}
		n, err := r.Read(buffer)
		if n > 0 {
			if need := int64(len(raw) + n); need > s.held {
				if !s.memory.TryAcquire(step) {
					return nil, errFull
				}
				s.held += step
			}
			raw = append(raw, buffer[:n]...)
		}
		switch {
		case errors.Is(err, io.EOF):
			return raw, nil
		case err != nil:
			var known *smtp.SMTPError
			switch {
			case errors.As(err, &known): // too large
				return nil, known
			case errors.Is(err, smtp.ErrTooLongLine):
				return nil, errNoLetter
			}
			return nil, errCutShort
		}
	}
}

func (s *session) release() {
	s.memory.Release(s.held)
	s.held = 0
}

func (s *session) Reset() { s.from, s.recipients = "", nil }

func (s *session) Logout() error { return nil }

// certificate of the listener, read again once its file has changed: renewing it needs no restart.
type certificate struct {
	file, key string

	mu     sync.Mutex
	loaded *tls.Certificate
	of     string // the file's time and size
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := ""
	if info, err := os.Stat(c.file); err == nil {
		of = fmt.Sprint(info.ModTime(), info.Size())
	}
	if c.loaded != nil && (of == "" || of == c.of) {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.file, c.key)
	if err != nil {
		if c.loaded != nil { // one half was renewed, or is being written
			return c.loaded, nil
		}
		return nil, err
	}
	c.loaded, c.of = &pair, of
	return c.loaded, nil
}
