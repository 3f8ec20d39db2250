package email

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// PostmarkURL is where Postmark's API lies; a test or a demo stands in for it.
	PostmarkURL string `env:"TRIBUTARY_EMAIL_POSTMARK_URL" doc:"Postmark's API, or what stands in for it"`
	// SMTPAuthorities is a PEM file.
	SMTPAuthorities string `env:"TRIBUTARY_EMAIL_SMTP_AUTHORITIES" doc:"a PEM file of authorities that submission servers' certificates may be of, beside the system's"`

	// Address of the listener; empty: there is none.
	Address string `env:"TRIBUTARY_EMAIL_SMTP_ADDRESS" doc:"where mail is taken in by SMTP, as :25; empty: nowhere"`
	// Hostname that the listener greets with.
	Hostname string `env:"TRIBUTARY_EMAIL_SMTP_HOSTNAME" doc:"what the listener calls itself, as its certificate does"`
	// Certificate and Key are PEM files; they are read again when they change.
	Certificate string `env:"TRIBUTARY_EMAIL_SMTP_CERTIFICATE" doc:"a PEM file: the listener's certificate for STARTTLS; empty: it offers none"`
	Key         string `env:"TRIBUTARY_EMAIL_SMTP_KEY" doc:"a PEM file: the certificate's key"`
	LMTP        bool   `env:"TRIBUTARY_EMAIL_SMTP_LMTP" doc:"speak LMTP (RFC 2033) instead of SMTP"`
	Connections int    `env:"TRIBUTARY_EMAIL_SMTP_CONNECTIONS" doc:"how many clients of the listener at once; others wait"`
}

// DefaultConfig is Postmark itself, and no listener.
func DefaultConfig() *Config {
	return &Config{PostmarkURL: "https://api.postmarkapp.com", Hostname: "localhost", Connections: 200}
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, fault string) {
		if !ok {
			faults = append(faults, errors.New(fault))
		}
	}
	u, err := url.Parse(c.PostmarkURL)
	check(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http"), "TRIBUTARY_EMAIL_POSTMARK_URL: must be an absolute http(s) URL")
	if c.Address != "" {
		_, _, err := net.SplitHostPort(c.Address)
		check(err == nil, "TRIBUTARY_EMAIL_SMTP_ADDRESS: must be host:port")
	}
	check(hostname.MatchString(c.Hostname), "TRIBUTARY_EMAIL_SMTP_HOSTNAME: must be a host's name")
	check((c.Certificate == "") == (c.Key == ""), "TRIBUTARY_EMAIL_SMTP_CERTIFICATE and TRIBUTARY_EMAIL_SMTP_KEY: both, or neither")
	check(c.Connections > 0, "TRIBUTARY_EMAIL_SMTP_CONNECTIONS: must be above 0")
	return errors.Join(faults...)
}

// Deps of an Adapter.
type Deps struct {
	// HTTP makes the calls to Postmark: it sets their deadlines.
	HTTP *http.Client
	// Secret, the same in every replica and at every start: ids and tokens are made under it.
	Secret []byte
	// Inside are networks that are not public and that a connection's submission server may lie in all the same.
	Inside []netip.Prefix
}

// Adapter of mail. It keeps no state but the files that it was told of.
type Adapter struct {
	cfg  Config
	deps Deps
	// authorities of submission servers; nil: the system's.
	authorities *x509.CertPool
	certificate *certificate // nil: no STARTTLS
	// listener that Listen begins with: an address that can't be listened on ends the start.
	listener atomic.Pointer[net.TCPListener]
}

var (
	_ channel.Adapter  = (*Adapter)(nil)
	_ channel.Sender   = (*Adapter)(nil)
	_ channel.Listener = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. An error: a file that it names can't be read, or its address not be listened on.
func New(cfg Config, deps Deps) (*Adapter, error) {
	cfg.PostmarkURL = strings.TrimSuffix(cfg.PostmarkURL, "/")
	a := &Adapter{cfg: cfg, deps: deps}
	if cfg.SMTPAuthorities != "" {
		pem, err := os.ReadFile(cfg.SMTPAuthorities)
		if err != nil {
			return nil, errors.New("TRIBUTARY_EMAIL_SMTP_AUTHORITIES: can't be read")
		}
		if a.authorities, err = x509.SystemCertPool(); err != nil {
			a.authorities = x509.NewCertPool()
		}
		if !a.authorities.AppendCertsFromPEM(pem) {
			return nil, errors.New("TRIBUTARY_EMAIL_SMTP_AUTHORITIES: holds no certificate")
		}
	}
	if cfg.Certificate != "" {
		a.certificate = &certificate{file: cfg.Certificate, key: cfg.Key}
		if _, err := a.certificate.get(&tls.ClientHelloInfo{}); err != nil {
			return nil, errors.New("TRIBUTARY_EMAIL_SMTP_CERTIFICATE and TRIBUTARY_EMAIL_SMTP_KEY: are no pair of certificate and key")
		}
	}
	if cfg.Address != "" {
		listener, err := a.listen()
		if err != nil {
			return nil, err
		}
		a.listener.Store(listener)
	}
	return a, nil
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "email" }
