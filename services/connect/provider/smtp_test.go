package provider

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// submission is a mail server that takes one password.
type submission struct {
	certificate     tls.Certificate
	authorities     string
	host, port      string
	mechanisms      string
	implicit, plain bool
	refuse          string // instead of the answer to AUTH
}

func (s *submission) start(t *testing.T) *submission {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	s.certificate = tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
	s.authorities = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(s.authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s.host, s.port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *submission) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	secure := s.implicit
	if s.implicit {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.certificate}})
	}
	lines := bufio.NewReader(conn)
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	hear := func() string { line, _ := lines.ReadString('\n'); return strings.TrimSpace(line) }
	say("220 mail ESMTP")
	for {
		line := hear()
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mail")
			if !secure && !s.plain {
				say("250-STARTTLS")
			}
			say("250 AUTH " + s.mechanisms)
		case "STARTTLS":
			say("220 go")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.certificate}})
			lines, secure = bufio.NewReader(conn), true
		case "AUTH":
			given := ""
			switch mechanism, initial, _ := strings.Cut(rest, " "); mechanism {
			case "PLAIN":
				raw, _ := base64.StdEncoding.DecodeString(initial)
				given = strings.TrimPrefix(string(raw), "\x00")
			case "LOGIN":
				say("334 " + base64.StdEncoding.EncodeToString([]byte("Username:")))
				user, _ := base64.StdEncoding.DecodeString(hear())
				say("334 " + base64.StdEncoding.EncodeToString([]byte("Password:")))
				password, _ := base64.StdEncoding.DecodeString(hear())
				given = string(user) + "\x00" + string(password)
			}
			switch {
			case s.refuse != "":
				say(s.refuse)
			case given == "anna\x00canary-password":
				say("235 ok")
			default:
				say("535 5.7.8 canary: anna is not welcome")
			}
		case "QUIT":
			say("221 bye")
			return
		case "":
			return
		default:
			say("502 no")
		}
	}
}

func (s *submission) check(t *testing.T, password string, settings ...string) error {
	t.Helper()
	a := Account{
		Settings:    map[string]string{"provider": "smtp", "smtp_host": s.host, "smtp_port": s.port},
		Credentials: map[string]string{"smtp_username": "anna", "smtp_password": password},
	}
	for i := 0; i < len(settings); i += 2 {
		a.Settings[settings[i]] = settings[i+1]
	}
	p := made(t, http.NotFoundHandler(), func(c *Config) { c.MailAuthorities = s.authorities })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return p.Of("email", a.Settings).(Checker).Check(ctx, App{}, a)
}

func TestMailServersAreLoggedInTo(t *testing.T) {
	for _, mechanisms := range []string{"PLAIN LOGIN", "LOGIN"} {
		s := (&submission{mechanisms: mechanisms}).start(t)
		require.NoError(t, s.check(t, "canary-password"))
		fault(t, s.check(t, "canary"), "smtp_535", "credentials/smtp_password", true)
	}
	implicit := (&submission{mechanisms: "PLAIN", implicit: true}).start(t)
	require.NoError(t, implicit.check(t, "canary-password", "smtp_tls", "implicit"))
}

func TestAMailServerIsToldNoPasswordWithoutTLS(t *testing.T) {
	plain := (&submission{mechanisms: "PLAIN", plain: true}).start(t)
	fault(t, plain.check(t, "canary-password"), "no_starttls", "settings/smtp_tls", false)
	stranger := (&submission{mechanisms: "PLAIN"}).start(t)
	stranger.authorities = (&submission{}).start(t).authorities
	fault(t, stranger.check(t, "canary-password"), "tls", "", false)
}

func TestAMailServersMoodSaysNothingOfAPassword(t *testing.T) {
	busy := (&submission{mechanisms: "PLAIN", refuse: "454 4.7.0 temporary failure"}).start(t)
	fault(t, busy.check(t, "canary-password"), "smtp_454", "", false)
	gone := (&submission{}).start(t)
	gone.port = "1"
	fault(t, gone.check(t, "canary-password"), "unreachable", "", false)
}

// Who connects an account names the host: it must not lead into the mesh's own network.
func TestOnlyPublicMailServersAreDialled(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "localhost", "::1"} {
		err := newMailServer([]netip.Prefix{}, nil).Check(t.Context(), App{}, Account{Settings: map[string]string{"smtp_host": host, "smtp_port": "25"}})
		fault(t, err, "not_public", "", false)
	}
}
