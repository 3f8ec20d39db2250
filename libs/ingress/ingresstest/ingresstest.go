// Package ingresstest gives an Ingress surroundings that a test can break: accounts in memory, a publisher
// that keeps what it is given, the registry of sealtest.
package ingresstest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/ingress"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// ErrAway is what the surroundings fail with.
var ErrAway = errors.New("ingresstest: away")

// Mesh is an Ingress and what it stands in.
type Mesh struct {
	*ingress.Ingress
	Accounts  *Accounts
	Publisher *Publisher
	Registry  *sealtest.Registry
	Seal      *seal.Client
	SpoolKeys *SpoolKeys
	Bucket    *media.Bucket
	Clock     *clock.Clock

	cfg      ingress.Config
	adapter  channel.Adapter
	features channel.Features
	log      io.Writer
	handler  http.Handler
}

// New makes a Mesh with its spool in a folder of its own. change may alter the configuration. Its breakers
// stay open for a test's length, so that one failure shows. log takes what the Ingress logs, and may be nil.
func New(t testing.TB, adapter channel.Adapter, features channel.Features, log io.Writer, change ...func(*ingress.Config)) *Mesh {
	t.Helper()
	cfg := ingress.Defaults(t.TempDir(), features.BodyLimit)
	cfg.BreakerPause = time.Hour
	cfg.DrainPause = 20 * time.Millisecond
	for _, f := range change {
		f(&cfg)
	}
	client, registry := sealtest.New(t)
	if log == nil {
		log = io.Discard
	}
	m := &Mesh{
		Accounts: &Accounts{}, Publisher: &Publisher{}, Registry: registry, Seal: client,
		SpoolKeys: &SpoolKeys{key: registry.SpoolKey()}, Bucket: media.NewBucket(memblob.OpenBucket(nil)), Clock: &clock.Clock{},
		cfg: cfg, adapter: adapter, features: features, log: log,
	}
	m.start(t)
	t.Cleanup(func() { m.Close(); m.Bucket.Close() })
	return m
}

// Restart stops the Ingress and starts it on the same folder, with closed breakers.
func (m *Mesh) Restart(t testing.TB) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m.start(t)
}

// Config of the Ingress.
func (m *Mesh) Config() ingress.Config { return m.cfg }

func (m *Mesh) start(t testing.TB) {
	t.Helper()
	tel := telemetry.Discard()
	tel.Log = slog.New(slog.NewJSONHandler(m.log, nil))
	in, err := ingress.New(m.cfg, ingress.Deps{
		Adapter: m.adapter, Features: m.features, Accounts: m.Accounts, Registry: m.Seal, Publisher: m.Publisher,
		SpoolKeys: m.SpoolKeys, Bucket: m.Bucket, Clock: m.Clock, Telemetry: tel,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Ingress = in
	mux := http.NewServeMux()
	mux.Handle("/webhooks/"+m.adapter.Name()+"/{ref}", in)
	m.handler = mux
}

// Do puts a request through the routes and gives the answer.
func (m *Mesh) Do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w
}

// Handler of the routes, for a server.
func (m *Mesh) Handler() http.Handler { return m.handler }

// Known makes a person known to the registry, unknown to the caches of the Ingress.
func (m *Mesh) Known(t testing.TB, workspace string, who channel.Identity) seal.Subject {
	t.Helper()
	id := seal.Identity{Workspace: workspace, Kind: who.Kind, Value: who.Value}
	subjects, err := m.Registry.Client(seal.Config{}).Acquire(context.Background(), []seal.Act{{Identity: id}})
	if err != nil {
		t.Fatal(err)
	}
	return subjects[0]
}

// Accounts in memory. The zero value knows none, and confirms that.
type Accounts struct {
	mu          sync.Mutex
	apps        []accounts.App
	connections []*channel.Connection
	records     []*pb.Connection
	confirms    int
	away        bool
	onConfirm   func()
}

// AddApp adds an app.
func (a *Accounts) AddApp(app *pb.App, secrets ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.apps = append(a.apps, accounts.App{App: app, SigningSecrets: secrets})
}

// AddConnection adds a connection with its credentials, or replaces the one of the same id.
func (a *Accounts) AddConnection(c *pb.Connection, credentials map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.records, func(r *pb.Connection) bool { return r.GetId() == c.GetId() })
	if at >= 0 {
		a.records = slices.Delete(a.records, at, at+1)
		a.connections = slices.Delete(a.connections, at, at+1)
	}
	a.records = append(a.records, c)
	a.connections = append(a.connections, &channel.Connection{
		ID: c.GetId(), WorkspaceID: c.GetWorkspaceId(), Channel: c.GetChannel(), ExternalID: c.GetExternalId(),
		Settings: c.GetSettings(), Credentials: credentials,
	})
}

// SetAway makes Confirm fail.
func (a *Accounts) SetAway(away bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = away
}

// OnConfirm has f called within Confirm: what it adds is news that the table had not yet read.
func (a *Accounts) OnConfirm(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onConfirm = f
}

// Confirms is how often Confirm was called.
func (a *Accounts) Confirms() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.confirms
}

// App implements ingress.Accounts.
func (a *Accounts) App(name string) (accounts.App, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, app := range a.apps {
		if app.GetName() == name {
			return app, true
		}
	}
	return accounts.App{}, false
}

// Connection implements ingress.Accounts.
func (a *Accounts) Connection(id string) (*pb.Connection, bool) {
	return a.find(func(c *pb.Connection) bool { return c.GetId() == id })
}

// ByAccount implements ingress.Accounts.
func (a *Accounts) ByAccount(externalID string) (*pb.Connection, bool) {
	return a.find(func(c *pb.Connection) bool { return c.GetExternalId() == externalID })
}

// GrantedBy implements ingress.Accounts.
func (a *Accounts) GrantedBy(grantor string) (granted []*pb.Connection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.records {
		if c.GetGrantor() == grantor {
			granted = append(granted, c)
		}
	}
	return granted
}

func (a *Accounts) find(is func(*pb.Connection) bool) (*pb.Connection, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.IndexFunc(a.records, is); i >= 0 {
		return a.records[i], true
	}
	return nil, false
}

// Opened implements ingress.Accounts.
func (a *Accounts) Opened(_ context.Context, c *pb.Connection) (*channel.Connection, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.connections {
		if conn.ID == c.GetId() && conn.Credentials != nil {
			return conn, nil
		}
	}
	return nil, accounts.ErrNoCredentials
}

// Confirm implements ingress.Accounts.
func (a *Accounts) Confirm(context.Context, time.Time) error {
	a.mu.Lock()
	a.confirms++
	away, f := a.away, a.onConfirm
	a.mu.Unlock()
	if away {
		return ErrAway
	}
	if f != nil {
		f()
	}
	return nil
}

// Publisher keeps what it is given, or fails.
type Publisher struct {
	mu    sync.Mutex
	msgs  []bus.Message
	calls int
	fail  func(ctx context.Context, msgs []bus.Message) error
}

// FailWith decides what becomes of each call from now on; nil: all succeed.
func (p *Publisher) FailWith(f func(ctx context.Context, msgs []bus.Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = f
}

// SetAway makes every call fail, or none.
func (p *Publisher) SetAway(away bool) {
	p.FailWith(nil)
	if away {
		p.FailWith(func(context.Context, []bus.Message) error { return ErrAway })
	}
}

// Publish implements ingress.Publisher.
func (p *Publisher) Publish(ctx context.Context, msgs ...bus.Message) error {
	p.mu.Lock()
	p.calls++
	fail := p.fail
	p.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, msgs); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.msgs = append(p.msgs, msgs...)
	return nil
}

// Calls of Publish so far.
func (p *Publisher) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// Messages published so far, without the copies that readers of few events get.
func (p *Publisher) Messages() []bus.Message {
	return p.on(func(topic string) bool { return strings.HasPrefix(topic, "inbound.") })
}

// On gives the messages published so far on one topic.
func (p *Publisher) On(topic string) []bus.Message {
	return p.on(func(t string) bool { return t == topic })
}

func (p *Publisher) on(is func(topic string) bool) []bus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var of []bus.Message
	for _, m := range p.msgs {
		if is(m.Topic) {
			of = append(of, m)
		}
	}
	return of
}

// Events published so far.
func (p *Publisher) Events(t testing.TB) (events []*pb.ChannelEvent) {
	t.Helper()
	for _, m := range p.Messages() {
		e := &pb.ChannelEvent{}
		if err := proto.Unmarshal(m.Value, e); err != nil {
			t.Fatal("a message is no event")
		}
		events = append(events, e)
	}
	return events
}

// SpoolKeys is one key, or none.
type SpoolKeys struct {
	mu  sync.Mutex
	key *pb.SpoolKey
}

// Set sets the key; nil: none is known.
func (s *SpoolKeys) Set(key *pb.SpoolKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Current implements ingress.SpoolKeys.
func (s *SpoolKeys) Current(time.Time) (*pb.SpoolKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key, s.key != nil
}
