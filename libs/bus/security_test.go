package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tributary.dev/libs/bus"
)

func TestEachSASLMechanism(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			cluster := broker(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "tributary", "secret"))
			addrs := cluster.ListenAddrs()
			roundTrip(t, bus.Config{Brokers: addrs, SASL: bus.SASL{Mechanism: mechanism, Username: "tributary", Password: "secret"}})

			// This broker hangs up on a wrong password; Kafka says so before.
			cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				res.ErrorCode = kerr.SaslAuthenticationFailed.Code
				return res, nil, true
			})
			_, err := bus.Open(t.Context(), bus.Config{Brokers: addrs, SASL: bus.SASL{Mechanism: mechanism, Username: "tributary", Password: "canary-5e1f"}})
			if err == nil || strings.Contains(err.Error(), "canary-5e1f") {
				t.Fatalf("got %v: a wrong password must be refused, and not told", err)
			}
		})
	}
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca := authority(t, dir)
	server, serverKey := ca.issue(t, "server", x509.ExtKeyUsageServerAuth)
	client, clientKey := ca.issue(t, "client", x509.ExtKeyUsageClientAuth)
	pair, err := tls.LoadX509KeyPair(server, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	addrs := broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert})).ListenAddrs()
	roundTrip(t, bus.Config{Brokers: addrs, TLS: bus.TLS{Enabled: true, CAFile: ca.file, CertFile: client, KeyFile: clientKey}})

	if _, err := bus.Open(t.Context(), bus.Config{Brokers: addrs, TLS: bus.TLS{Enabled: true, CertFile: client, KeyFile: clientKey}}); err == nil {
		t.Fatal("a broker that nobody vouches for was trusted")
	}
}

func TestConfigNamesAllFaults(t *testing.T) {
	_, err := bus.Open(t.Context(), bus.Config{
		Brokers:          []string{"kafka"},
		Partitions:       -1,
		MaxInFlightBytes: 1,
		TLS:              bus.TLS{CertFile: "cert.pem"},
		SASL:             bus.SASL{Mechanism: "GSSAPI", Password: "canary-5e1f"},
	})
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, setting := range []string{"Brokers", "Partitions", "MaxInFlightBytes", "TLS.Enabled", "SASL.Mechanism"} {
		if !strings.Contains(err.Error(), setting) {
			t.Errorf("%s is not named in: %v", setting, err)
		}
	}
	if strings.Contains(err.Error(), "canary-5e1f") {
		t.Error("the password is told")
	}
	for _, cfg := range []bus.Config{
		{},
		{Brokers: []string{"kafka:9092"}, TLS: bus.TLS{Enabled: true, CAFile: "missing.pem"}},
		{Brokers: []string{"kafka:9092"}, TLS: bus.TLS{Enabled: true, CertFile: "cert.pem"}},
		{Brokers: []string{"kafka:9092"}, SASL: bus.SASL{Mechanism: "PLAIN", Username: "only"}},
		{Brokers: []string{"kafka:9092"}, SASL: bus.SASL{Username: "only"}},
	} {
		if _, err := bus.Open(t.Context(), cfg); err == nil {
			t.Errorf("no fault found in %+v", cfg)
		}
	}
}

func broker(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// roundTrip uses both ways of connecting: the transport's and the readers'.
func roundTrip(t *testing.T, cfg bus.Config) {
	t.Helper()
	cfg.Partitions = 2
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	defer func() {
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := b.EnsureTopics(ctx, bus.Topic{Name: "events"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(ctx, bus.Message{Topic: "events", Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	got := make(chan bus.Record, 1)
	subscribed, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() {
		ended <- b.Subscribe(subscribed, bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(_ context.Context, batch []bus.Record) error {
			got <- batch[0]
			return nil
		}})
	}()
	select {
	case r := <-got:
		if string(r.Value) != "v" {
			t.Errorf("got %q", r.Value)
		}
	case <-ctx.Done():
		t.Error("nothing arrived")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// ca signs certificates for 127.0.0.1.
type ca struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	pool      *x509.CertPool
}

func authority(t *testing.T, dir string) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &ca{dir: dir, file: writePEM(t, dir, "ca.pem", "CERTIFICATE", der), cert: cert, key: key, pool: pool}
}

func (a *ca) issue(t *testing.T, name string, usage x509.ExtKeyUsage) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, a.dir, name+".pem", "CERTIFICATE", der), writePEM(t, a.dir, name+".key", "EC PRIVATE KEY", private)
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
