package provider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/media"
)

// mailServer logs in where mail is handed over (RFC 6409), sends nothing, and leaves.
type mailServer struct {
	dial func(ctx context.Context, address string) (net.Conn, error)
	// roots that a server's certificate may be of; nil: the system's.
	roots *x509.CertPool
}

// authorities are the system's and those of a PEM file; nil without one.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(content) {
		return nil, errNoPEM
	}
	return roots, nil
}

// newMailServer only dials public addresses, and allowed ones: who connects an account names the host.
func newMailServer(allowed []netip.Prefix, roots *x509.CertPool) *mailServer {
	//bound:timeout connecting to a mail server | {} | the check fails
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: media.PublicOnly(allowed)}
	return &mailServer{roots: roots, dial: func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}}
}

func (m *mailServer) Check(ctx context.Context, _ App, a Account) error {
	host, port, security := a.Settings["smtp_host"], a.Settings["smtp_port"], a.Settings["smtp_tls"]
	if port == "" {
		port = "587"
	}
	conn, err := m.dial(ctx, net.JoinHostPort(host, port))
	if errors.Is(err, media.ErrForbiddenAddress) {
		return &Fault{Code: "not_public"} // not asked, so nobody knows
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: m.roots}
	if security == "implicit" { // RFC 8314: TLS from the first byte
		conn = tls.Client(conn, config)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return mailError(err)
	}
	if security == "" || security == "starttls" {
		if ok, _ := client.Extension("STARTTLS"); !ok {
			return &Fault{Code: "no_starttls", Field: "settings/smtp_tls"}
		}
		if err := client.StartTLS(config); err != nil {
			return &Fault{Code: "tls"}
		}
	}
	if user := a.Credentials["smtp_username"]; user != "" {
		if err := client.Auth(login(client, host, user, a.Credentials["smtp_password"])); err != nil {
			return mailError(err)
		}
	}
	_ = client.Quit() // it took the password: how it says goodbye matters no more
	return nil
}

// mailError: 535 alone says that the password is wrong (RFC 4954, 6); other codes may be of the moment.
func mailError(err error) error {
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		return err
	}
	f := &Fault{Code: "smtp_" + strconv.Itoa(reply.Code)}
	if reply.Code == 535 {
		f.Void, f.Field = true, "credentials/smtp_password"
	}
	return f
}

// login takes PLAIN where it is offered, else LOGIN, which some offer alone.
func login(client *smtp.Client, host, user, password string) smtp.Auth {
	_, offered := client.Extension("AUTH")
	for mechanism := range strings.FieldsSeq(offered) {
		if strings.EqualFold(mechanism, "PLAIN") {
			return smtp.PlainAuth("", user, password, host)
		}
	}
	return loginAuth{user, password}
}

type loginAuth struct{ user, password string }

func (l loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, &Fault{Code: "no_starttls"}
	}
	return "LOGIN", nil, nil
}

func (l loginAuth) Next(prompt []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch strings.ToLower(strings.TrimSuffix(string(prompt), ":")) {
	case "username":
		return []byte(l.user), nil
	case "password":
		return []byte(l.password), nil
	}
	return nil, &Fault{Code: "unreadable_answer"}
}
