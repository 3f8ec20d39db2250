package standin

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"
)

// SMTP stands in for a submission server (RFC 6409): it takes mail from who has logged in under TLS, and remembers it.
type SMTP struct {
	// Address is host:port.
	Address string

	listener           net.Listener
	username, password string
	tls                *tls.Config // nil: it offers no STARTTLS, and lets in without

	mu    sync.Mutex
	mails []SMTPMail
	fault SMTPFault
	calls int
	conns map[net.Conn]bool
}

// SMTPMail is a mail that was taken.
type SMTPMail struct {
	From string
	To   []string
	Data []byte
	TLS  bool
}

// SMTPFault decides about the n-th command (from 1): EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, and DOT for the end of
// a mail. The zero failure changes nothing.
type SMTPFault func(n int, command string) SMTPFailure

// SMTPFailure of one command.
type SMTPFailure struct {
	// Refuse answers with this code instead of carrying the command out.
	Refuse int
	// Status is the answer's enhanced code, as 5.1.1.
	Status string
	// HangUp instead of answering; after a DOT the mail was taken.
	HangUp bool
}

// NewSMTP starts one on address for one user. authority signs its certificate; nil: it speaks without TLS.
func NewSMTP(address, username, password string, authority *Authority) (*SMTP, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &SMTP{Address: listener.Addr().String(), listener: listener, username: username, password: password, conns: map[net.Conn]bool{}}
	if authority != nil {
		host, _, _ := net.SplitHostPort(s.Address)
		pair, err := authority.pair(host)
		if err != nil {
			listener.Close()
			return nil, err
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
	go s.accept() // ends with Close
	return s, nil
}

// Host and Port of its address.
func (s *SMTP) Host() string { host, _, _ := net.SplitHostPort(s.Address); return host }

// Port of its address.
func (s *SMTP) Port() string { _, port, _ := net.SplitHostPort(s.Address); return port }

// Mails are those taken so far, in order.
func (s *SMTP) Mails() []SMTPMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Fail sets the fault of later commands; nil ends it.
func (s *SMTP) Fail(f SMTPFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.calls = f, 0
}

// Close ends the server and its connections.
func (s *SMTP) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	return err
}

func (s *SMTP) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		go func() {
			c := &smtpConn{server: s, conn: conn, text: textproto.NewConn(conn)}
			c.serve()
			c.conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		}()
	}
}

func (s *SMTP) failure(command string) SMTPFailure {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fault == nil {
		return SMTPFailure{}
	}
	return s.fault(s.calls, command)
}

// smtpConn is one client's.
type smtpConn struct {
	server          *SMTP
	conn            net.Conn
	text            *textproto.Conn
	secure, allowed bool
	mail            SMTPMail
}

// serve until the client leaves, or is hung up on.
func (c *smtpConn) serve() {
	c.say(220, "stand-in ESMTP")
	for {
		_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
		line, err := c.text.ReadLine()
		if err != nil {
			return
		}
		command, argument, _ := strings.Cut(line, " ")
		command = strings.ToUpper(command)
		if command == "QUIT" {
			c.say(221, "bye")
			return
		}
		switch f := c.server.failure(command); {
		case f.HangUp:
			return
		case f.Refuse != 0:
			c.say(f.Refuse, strings.TrimSpace(f.Status+" refused"))
		case !c.carry(command, argument):
			return
		}
	}
}

// carry a command out; false hangs up.
func (c *smtpConn) carry(command, argument string) bool {
	switch command {
	case "EHLO":
		c.hello()
	case "HELO", "NOOP":
		c.say(250, "ok")
	case "RSET":
		c.mail = SMTPMail{}
		c.say(250, "2.0.0 ok")
	case "STARTTLS":
		return c.startTLS()
	case "AUTH":
		c.login(argument)
	case "MAIL":
		if !c.allowed {
			c.say(530, "5.7.0 log in first")
			return true
		}
		c.mail = SMTPMail{From: mailPath(argument), TLS: c.secure}
		c.say(250, "2.1.0 ok")
	case "RCPT":
		c.mail.To = append(c.mail.To, mailPath(argument))
		c.say(250, "2.1.5 ok")
	case "DATA":
		return c.data()
	default:
		c.say(500, "5.5.1 not known")
	}
	return true
}

func (c *smtpConn) hello() {
	_ = c.text.PrintfLine("250-stand-in")
	if c.server.tls != nil && !c.secure {
		_ = c.text.PrintfLine("250-STARTTLS")
	} else {
		_ = c.text.PrintfLine("250-AUTH PLAIN LOGIN")
	}
	_ = c.text.PrintfLine("250-8BITMIME")
	c.say(250, "ENHANCEDSTATUSCODES")
}

func (c *smtpConn) startTLS() bool {
	if c.server.tls == nil || c.secure {
		c.say(502, "5.5.1 no TLS here")
		return true
	}
	c.say(220, "2.0.0 go on")
	secure := tls.Server(c.conn, c.server.tls) // shakes hands with the next command
	c.conn, c.text, c.secure = secure, textproto.NewConn(secure), true
	return true
}

// login by AUTH PLAIN (RFC 4616) with an initial response.
func (c *smtpConn) login(argument string) {
	mechanism, response, _ := strings.Cut(argument, " ")
	plain, err := base64.StdEncoding.DecodeString(response)
	want := "\x00" + c.server.username + "\x00" + c.server.password
	switch {
	case c.server.tls != nil && !c.secure:
		c.say(538, "5.7.11 only under TLS")
	case strings.ToUpper(mechanism) != "PLAIN":
		c.say(504, "5.5.4 not known")
	case err != nil || string(plain) != want:
		c.say(535, "5.7.8 wrong")
	default:
		c.allowed = true
		c.say(235, "2.7.0 ok")
	}
}

func (c *smtpConn) data() bool {
	if len(c.mail.To) == 0 {
		c.say(503, "5.5.1 no recipient")
		return true
	}
	c.say(354, "go on")
	data, err := io.ReadAll(c.text.DotReader())
	if err != nil {
		return false
	}
	f := c.server.failure("DOT")
	if f.Refuse != 0 {
		c.say(f.Refuse, strings.TrimSpace(f.Status+" refused"))
		return true
	}
	c.mail.Data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	c.server.mu.Lock()
	c.server.mails = append(c.server.mails, c.mail)
	c.server.mu.Unlock()
	c.mail = SMTPMail{}
	if f.HangUp {
		return false
	}
	c.say(250, "2.0.0 queued")
	return true
}

func (c *smtpConn) say(code int, text string) { _ = c.text.PrintfLine("%d %s", code, text) }

// path between the brackets of MAIL FROM and RCPT TO.
func mailPath(argument string) string {
	_, after, _ := strings.Cut(argument, "<")
	address, _, _ := strings.Cut(after, ">")
	return address
}

// SMTPBounce is a mailer's report (RFC 3464) that a mail which it took came to nothing: to is the mailbox that sent
// the mail, status the enhanced code.
func SMTPBounce(m SMTPMail, to, status string) []byte {
	header, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: <>\r\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example>\r\nTo: %s\r\n", to)
	fmt.Fprintf(&b, "Subject: Undelivered Mail Returned to Sender\r\nAuto-Submitted: auto-replied\r\nMessage-ID: <bounce-%x@mx.example>\r\n", len(m.Data))
	b.WriteString("Date: Sat, 14 Mar 2026 15:00:00 +0000\r\nMIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: multipart/report; report-type=delivery-status; boundary=\"bounce\"\r\n\r\n")
	b.WriteString("--bounce\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is the mail system. Your mail could not be delivered.\r\n")
	fmt.Fprintf(&b, "--bounce\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; %s\r\n", strings.Join(m.To, ", "))
	fmt.Fprintf(&b, "Action: failed\r\nStatus: %s\r\nDiagnostic-Code: smtp; 550 %s no such user\r\n\r\n", status, status)
	fmt.Fprintf(&b, "--bounce\r\nContent-Type: text/rfc822-headers\r\n\r\n%s\r\n\r\n--bounce--\r\n", header)
	return b.Bytes()
}
