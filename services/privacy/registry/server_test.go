package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tributary.dev/libs/clock"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	slackToken        = "slack-token-0123456789abcdef0123"
	conversationToken = "conversation-token-0123456789abc"
	connectToken      = "connect-token-0123456789abcdef01"
)

// serve serves the registry until the test ends and gives its address.
func (f *fixture) serve(change func(*AccessConfig)) string {
	f.t.Helper()
	cfg := DefaultAccess()
	cfg.Tokens = "slack:" + slackToken + ",conversation:" + conversationToken + ",connect:" + connectToken
	if change != nil {
		change(&cfg)
	}
	access, err := NewAccess(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := f.NewServer(access)
	go func() { done <- Serve(ctx, server, l) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error("serve:", err)
		}
	})
	return l.Addr().String()
}

func (f *fixture) client(address, token string) *seal.Client {
	f.t.Helper()
	return f.dial(seal.Config{Address: address, Token: token, Timeout: 10 * time.Second}, nil)
}

func (f *fixture) dial(cfg seal.Config, onTime func(sent, registry time.Time)) *seal.Client {
	f.t.Helper()
	c, err := seal.Dial(cfg, onTime)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

var sealID = seal.Identity{Workspace: "w1", Kind: "phone", Value: "+41790000001"}

func TestFromSealingToErasureOverTheWire(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		address := f.serve(nil)
		adapter := f.client(address, slackToken)
		var mesh clock.Clock
		api := f.dial(seal.Config{Address: address, Token: conversationToken, Timeout: 10 * time.Second}, mesh.Observe)

		subjects, err := adapter.Acquire(ctx, []seal.Act{{Identity: sealID}})
		if err != nil {
			t.Fatal(err)
		}
		s := subjects[0]
		origin := seal.OriginContent("m1", 1)
		part, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, origin, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		open := func(c *seal.Client, purpose pb.Purpose) (seal.Opened, error) {
			o, err := c.Open(ctx, purpose, []seal.Sealed{{Workspace: "w1", Part: part, Origin: origin}})
			if err != nil {
				return seal.Opened{}, err
			}
			return o[0], nil
		}
		if o, err := open(api, pb.Purpose_PURPOSE_CONVERSATION); err != nil || string(o.Plain) != "hello" {
			t.Fatal(o, err)
		}
		if d := mesh.Now().Sub(f.clock.Now()); d < 0 || d > time.Minute {
			t.Errorf("the mesh's clock is %v off the registry's", d)
		}
		if _, err := f.Freeze(ctx, "w1", "r1", []string{s.ID}); err != nil {
			t.Fatal(err)
		}
		api.Evict(s.ID)
		if o, err := open(api, pb.Purpose_PURPOSE_CONVERSATION); err != nil || !errors.Is(o.Err, seal.ErrGone) {
			t.Fatal(o, err)
		}
		f.relayAll()
		if err := f.Destroy(ctx, []string{s.ID}); err != nil {
			t.Fatal(err)
		}
		adapter.Evict(s.ID)
		again, err := adapter.Acquire(ctx, []seal.Act{{Identity: sealID}, {Identity: sealID, At: f.clock.Now().Add(-time.Hour)}})
		if err != nil || again[0].ID == s.ID || again[1].State != pb.SubjectState_SUBJECT_STATE_ERASED {
			t.Fatal(again, err)
		}

		keys, err := f.SpoolKeys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := sealedEntry(t, keys[0])
		opened, err := adapter.OpenSpool(ctx, []*pb.OpenSpoolRequest_Item{e.item})
		if err != nil || !e.opens(opened[0].GetKey()) {
			t.Fatal(opened, err)
		}
	})
}

func TestWhatAServiceMayNotDoIsRefused(t *testing.T) {
	f := newFixture(t, sqltest.SQLite(t, Migrations))
	address := f.serve(nil)
	s := f.acquired(act{identity{"w1", "phone", sealID.Value}, 0})[0]
	ctx := context.Background()
	acquire := func(c *seal.Client) error {
		_, err := c.Acquire(ctx, []seal.Act{{Identity: sealID}})
		return err
	}
	unwrap := func(p pb.Purpose) func(*seal.Client) error {
		return func(c *seal.Client) error {
			_, _, err := c.Keys(ctx, "", p, []string{s.GetKeyId()})
			return err
		}
	}
	spool := func(c *seal.Client) error {
		_, err := c.OpenSpool(ctx, []*pb.OpenSpoolRequest_Item{{SpoolKeyId: "x"}})
		return err
	}
	ask := func(c *seal.Client) error { return c.AskTime(ctx) }
	for name, c := range map[string]struct {
		token string
		call  func(*seal.Client) error
		want  codes.Code
	}{
		"no token":                       {"", acquire, codes.Unauthenticated},
		"wrong token":                    {"slack-token-0123456789abcdef0124", acquire, codes.Unauthenticated},
		"a token's beginning":            {slackToken[:20], acquire, codes.Unauthenticated},
		"an adapter acquires":            {slackToken, acquire, codes.OK},
		"an adapter delivers":            {slackToken, unwrap(pb.Purpose_PURPOSE_DELIVERY), codes.OK},
		"an adapter reads conversations": {slackToken, unwrap(pb.Purpose_PURPOSE_CONVERSATION), codes.PermissionDenied},
		"an adapter searches":            {slackToken, unwrap(pb.Purpose_PURPOSE_SEARCH), codes.PermissionDenied},
		"no purpose":                     {slackToken, unwrap(pb.Purpose_PURPOSE_UNSPECIFIED), codes.PermissionDenied},
		"a purpose that there is not":    {slackToken, unwrap(pb.Purpose(99)), codes.PermissionDenied},
		"conversation reads":             {conversationToken, unwrap(pb.Purpose_PURPOSE_CONVERSATION), codes.OK},
		"conversation delivers":          {conversationToken, unwrap(pb.Purpose_PURPOSE_DELIVERY), codes.PermissionDenied},
		"conversation opens spools":      {conversationToken, spool, codes.PermissionDenied},
		"connect asks for the time":      {connectToken, ask, codes.OK},
		"a stranger asks for the time":   {"", ask, codes.Unauthenticated},
		"connect acquires":               {connectToken, acquire, codes.PermissionDenied},
		"connect reads":                  {connectToken, unwrap(pb.Purpose_PURPOSE_STORAGE), codes.PermissionDenied},
	} {
		err := c.call(f.client(address, c.token))
		got := codes.OK
		var s interface{ GRPCStatus() *status.Status }
		if errors.As(err, &s) {
			got = s.GRPCStatus().Code()
		}
		if got != c.want || c.want != codes.OK && !errors.Is(err, seal.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCallsAreCheckedAndTheFieldNamed(t *testing.T) {
	f := newFixture(t, sqltest.SQLite(t, Migrations))
	s := &server{r: f.Registry}
	ctx := context.Background()
	many := make([]string, seal.MaxItems+1)
	for i := range many {
		many[i] = "k"
	}
	canary := "+41791234567\xff"
	good := &pb.Identity{WorkspaceId: "w", Kind: "k", Value: "v"}
	items := func(id *pb.Identity, at int64) *pb.AcquireRequest {
		return &pb.AcquireRequest{Items: []*pb.AcquireRequest_Item{{Identity: good}, {Identity: id, ActedAtUs: at}}}
	}
	acquire := func(in *pb.AcquireRequest) error { _, err := s.Acquire(ctx, in); return err }
	find := func(in *pb.FindRequest) error { _, err := s.Find(ctx, in); return err }
	unwrap := func(in *pb.UnwrapRequest) error { _, err := s.Unwrap(ctx, in); return err }
	openSpool := func(in *pb.OpenSpoolRequest) error { _, err := s.OpenSpool(ctx, in); return err }
	for field, err := range map[string]error{
		"items:":                         acquire(&pb.AcquireRequest{}),
		"items[1].identity.workspace_id": acquire(items(&pb.Identity{Kind: "k", Value: "v"}, 0)),
		"items[1].identity.kind":         acquire(items(&pb.Identity{WorkspaceId: "w", Value: "v"}, 0)),
		"items[1].identity.value":        acquire(items(&pb.Identity{WorkspaceId: "w", Kind: "k", Value: canary}, 0)),
		"items[1].acted_at_us":           acquire(items(good, -1)),
		"identities:":                    find(&pb.FindRequest{}),
		"identities[0].workspace_id":     find(&pb.FindRequest{Identities: []*pb.Identity{nil}}),
		"identities[0].value":            find(&pb.FindRequest{Identities: []*pb.Identity{{WorkspaceId: "w", Kind: "k", Value: strings.Repeat("x", 2000)}}}),
		"key_ids:":                       unwrap(&pb.UnwrapRequest{KeyIds: many}),
		"key_ids[1]":                     unwrap(&pb.UnwrapRequest{KeyIds: []string{"a", ""}}),
		"workspace_id":                   unwrap(&pb.UnwrapRequest{KeyIds: []string{"a"}, WorkspaceId: "a\nb"}),
		"items[0].spool_key_id":          openSpool(&pb.OpenSpoolRequest{Items: []*pb.OpenSpoolRequest_Item{{}}}),
	} {
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "+4179") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if f.rows("subjects") != 0 {
		t.Error("a call that was refused made a subject")
	}
}

func TestAServiceThatAsksTooMuchHurtsNobodyElse(t *testing.T) {
	f := newFixture(t, sqltest.SQLite(t, Migrations))
	address := f.serve(func(c *AccessConfig) { c.Rate = seal.MaxItems })
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	flood := f.dial(seal.Config{Address: address, Token: slackToken, Timeout: 300 * time.Millisecond}, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for i := range 6 {
		wg.Go(func() {
			ids := make([]seal.Identity, 900)
			for j := range ids {
				ids[j] = seal.Identity{Workspace: "w1", Kind: "phone", Value: strings.Repeat("1", i+1) + "-" + strings.Repeat("2", j%300+1) + strings.Repeat("3", j/300)}
			}
			if _, err := flood.Find(ctx, ids); err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if _, err := f.client(address, conversationToken).Find(context.Background(), []seal.Identity{sealID}); err != nil {
		t.Error("another service:", err)
	}
}

func TestFaultsOfAccessAreAllNamed(t *testing.T) {
	_, err := NewAccess(AccessConfig{Tokens: "slack:short,nocolon,sms:" + slackToken + ",slack:" + slackToken, Rate: 5, CertFile: "/none", Services: "slack"})
	for _, want := range []string{"TRIBUTARY_REGISTRY_RATE", "entry 1", "entry 2", "entry 4 repeats", "TRIBUTARY_REGISTRY_SERVER_CERT", "TRIBUTARY_REGISTRY_SERVICES"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), slackToken) {
		t.Error("a token is in the error")
	}
	var cfg Config
	if err := cfg.Validate(); err == nil || strings.Count(err.Error(), "TRIBUTARY_REGISTRY_") != 9 {
		t.Error(err)
	}
}

func TestACertificateOfTheCAStandsForAToken(t *testing.T) {
	f := newFixture(t, sqltest.SQLite(t, Migrations))
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue(t, dir, "registry")
	ca.issue(t, dir, "conversation")
	ca.issue(t, dir, "stranger")
	newAuthority(t, dir, "other").issue(t, dir, "slack")
	file := func(name string) string { return filepath.Join(dir, name) }
	address := f.serve(func(c *AccessConfig) {
		c.CertFile, c.KeyFile, c.ClientCAFile = file("registry.crt"), file("registry.key"), file("ca.crt")
		c.Services = "conversation,slack"
	})
	for name, want := range map[string]bool{"conversation": true, "stranger": false, "slack": false, "": false} {
		cfg := seal.Config{Address: address, Token: conversationToken, TLS: seal.TLS{Enabled: true, CAFile: file("ca.crt"), ServerName: "registry"}}
		if name != "" {
			cfg.TLS.CertFile, cfg.TLS.KeyFile = file(name+".crt"), file(name+".key")
		}
		_, err := f.dial(cfg, nil).Find(context.Background(), []seal.Identity{sealID})
		if (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := f.client(address, conversationToken).Find(context.Background(), []seal.Identity{sealID}); err == nil {
		t.Error("without TLS")
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}, key}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
	return a
}

func (a authority) issue(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", private)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJobsDoWhatIsDueAndEndWithTheirContext(t *testing.T) {
	f := newFixture(t, sqltest.SQLite(t, Migrations))
	f.cfg.Upkeep = 10 * time.Millisecond
	f.restart()
	before := f.epochSecrets()
	f.clock.pass(f.cfg.EpochEvery)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, j := range f.Jobs() {
		wg.Go(func() {
			if err := j.Run(ctx); err != nil {
				t.Errorf("%s: %v", j.Name, err)
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	due := func() bool {
		keys, err := f.SpoolKeys(context.Background())
		now := f.epochSecrets()
		return err == nil && len(keys) == 2 && keys[1].GetDestroyedAtUs() != 0 && len(now) == 1 && now[0] != before[0] && f.rows("outbox") == 0
	}
	for !due() && time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
	}
	if !due() {
		t.Error("not done in time:", f.log.String())
	}
	cancel()
	wg.Wait()
}

func BenchmarkUnwrap(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(map[int]string{1: "one", 256: "batch of 256"}[n], func(b *testing.B) {
			f := newFixture(b, sqltest.SQLite(b, Migrations))
			acts := make([]act, n)
			for i := range acts {
				acts[i] = act{phone(i), 0}
			}
			ids := make([]string, n)
			for i, s := range f.acquired(acts...) {
				ids[i] = s.GetKeyId()
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.unwrap(context.Background(), ids, pb.Purpose_PURPOSE_CONVERSATION, "w1"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

func BenchmarkAcquire(b *testing.B) {
	f := newFixture(b, sqltest.SQLite(b, Migrations))
	next := 0
	acts := make([]act, 256)
	b.ReportAllocs()
	for b.Loop() {
		for i := range acts {
			acts[i] = act{phone(next), 0}
			next++
		}
		f.acquired(acts...)
	}
	b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "new/s")
}

func BenchmarkUnwrapInMemory(b *testing.B) {
	keys, err := deriveKeys(newSecret())
	if err != nil {
		b.Fatal(err)
	}
	wrapped := keys.wrapKey("w1", "s1", newSecret())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.unwrapKey("w1", "s1", wrapped); err != nil {
			b.Fatal(err)
		}
	}
}
