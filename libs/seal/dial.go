package seal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// TLS of the connection to the registry. With CertFile and KeyFile it is mutual, and the certificate's
// common name is the service's identity instead of the token.
type TLS struct {
	Enabled                   bool
	CAFile, CertFile, KeyFile string
	ServerName                string
}

// Dial makes a client of the registry at cfg.Address. It connects when first asked, and again for ever;
// while it can't, calls fail at once. opts come last.
func Dial(cfg Config, onTime func(sent, registry time.Time), opts ...grpc.DialOption) (*Client, error) {
	if cfg.Address == "" {
		return nil, errors.New("seal: no address of the key registry")
	}
	creds := insecure.NewCredentials()
	if cfg.TLS.Enabled {
		t, err := cfg.TLS.config()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(t)
	}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				//bound:retry connecting to the registry: the first pause | {} | tried again; calls fail meanwhile
				BaseDelay: 50 * time.Millisecond,
				//bound:retry connecting to the registry: the longest pause | {} | tried again; calls fail meanwhile
				MaxDelay:   2 * time.Second,
				Multiplier: 1.6, Jitter: .2,
			},
			//bound:timeout connecting to the registry | {} | tried again; calls fail meanwhile
			MinConnectTimeout: time.Second,
		}),
		// A connection whose other end vanished is found out within 7 s rather than TCP's quarter of an hour.
		//bound:timeout the registry's answer to a ping | {} | the connection is made anew
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
	}
	if cfg.Token != "" {
		all = append(all, grpc.WithPerRPCCredentials(bearer{cfg.Token, cfg.TLS.Enabled}))
	}
	conn, err := grpc.NewClient(cfg.Address, append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("seal: address of the key registry: %w", err)
	}
	c := NewClient(pb.NewKeyRegistryClient(conn), cfg, onTime)
	c.closer = conn
	return c, nil
}

type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity keeps a token that was meant for TLS from going out without.
func (b bearer) RequireTransportSecurity() bool { return b.secure }

func (t TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("seal: CA of the key registry: %w", err)
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("seal: no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		// Read anew for each connection, so that a rotated certificate is taken up.
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("seal: client certificate: %w", err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &pair, err
		}
	}
	return cfg, nil
}
