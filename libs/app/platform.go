package app

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
)

// Platform is what the services of one process share.
type Platform struct {
	Common    Common
	Telemetry *telemetry.Telemetry
	Bus       *bus.Bus
	Clock     *clock.Clock
	// Listener is where HTTP is served, and RegistryListener the key registry; where nil, Run listens as
	// Common says. Whoever gives one may use port 0.
	Listener, RegistryListener net.Listener
	// Started is told the address once everything was started. Optional.
	Started func(http net.Addr)

	secret []byte

	mu sync.Mutex
	//bound:exempt one a database that a service opens while it is built
	databases []*sqldb.DB
	//bound:exempt one a database that a service opens while it is built
	opened map[string]string // database URL -> name
}

// Unit is a service to run, with its settings.
type Unit struct {
	Service  Service
	Settings any
	// RegistryToken stands for Common.Registry.Token where several services share a process.
	RegistryToken string
}

// Open makes the platform of a process that the settings describe. It does not fail for brokers that are
// away.
func Open(ctx context.Context, name string, common Common) (*Platform, error) {
	if err := os.MkdirAll(common.Data, 0o700); err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	secret, err := masterSecret(common)
	if err != nil {
		return nil, err
	}
	t, err := telemetry.New(telemetry.Config{
		Service: name, OTLPEndpoint: common.OTLPEndpoint, TraceFile: common.TraceFile,
		TraceRatio: common.TraceRatio, LogLevel: common.LogLevel,
	})
	if err != nil {
		return nil, err
	}
	local := &clock.Clock{}
	if common.ClockOffset != 0 {
		local.Local = func() time.Time { return time.Now().Add(common.ClockOffset) }
	}
	cfg := common.Bus(name)
	cfg.Log, cfg.Meter, cfg.Now = t.Log, t.Meter, local.Now
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return &Platform{Common: common, Telemetry: t, Bus: b, Clock: local, secret: secret}, nil
}

// Close ends what Open made, after Run.
func (p *Platform) Close(ctx context.Context) error {
	return errors.Join(p.Bus.Close(ctx), p.Telemetry.Close(ctx))
}

// deps are what one service is built on.
func (p *Platform) deps(u Unit) (*Deps, error) {
	name := u.Service.Name
	t, err := p.Telemetry.For(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.Common.Data, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	common := p.Common
	if u.RegistryToken != "" {
		common.Registry.Token = u.RegistryToken
	}
	registry := common.seal()
	registry.Meter, registry.Now = t.Meter, p.Clock.Sent
	sealer, err := seal.Dial(registry, p.Clock.Observe)
	if err != nil {
		return nil, err
	}
	return &Deps{
		Settings: u.Settings, Common: common, Telemetry: t, Clock: p.Clock, Bus: p.Bus, Seal: sealer,
		HTTP: outward(t), DataDir: dir, Process: process(dir),
		OpenDB: func(ctx context.Context, db string, migrations fs.FS) (*sqldb.DB, error) {
			return p.openDB(ctx, name, db, migrations)
		},
		Secret: func(purpose string) []byte {
			key, err := hkdf.Key(sha256.New, p.secret, nil, name+"/"+purpose, 32)
			if err != nil {
				panic(err) // only for a length that SHA-256 can't give
			}
			return key
		},
	}, nil
}

func (p *Platform) openDB(ctx context.Context, service, name string, migrations fs.FS) (*sqldb.DB, error) {
	url := strings.ReplaceAll(p.Common.DatabaseURL, "{name}", name)
	if url == "" {
		url = "sqlite:" + filepath.Join(p.Common.Data, service, name+".db")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, taken := p.opened[url]; taken {
		return nil, fmt.Errorf("TRIBUTARY_DATABASE_URL: the databases %s and %s need one each: write {name} into it", other, name)
	}
	db, err := sqldb.Open(ctx, sqldb.Config{URL: url, Migrations: migrations})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", name, err)
	}
	if p.opened == nil {
		p.opened = map[string]string{}
	}
	p.opened[url] = name
	p.databases = append(p.databases, db)
	return db, nil
}

func (p *Platform) closeDatabases() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, db := range p.databases {
		errs = append(errs, db.Close())
	}
	p.databases, p.opened = nil, nil
	return errors.Join(errs...)
}

// process names who works on a data folder.
func process(dir string) string {
	host, err := os.Hostname()
	if err != nil {
		return "" // nobody is taken for a predecessor
	}
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	return host + ":" + dir
}

// outward is the client for calls to providers.
func outward(t *telemetry.Telemetry) *http.Client {
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		//bound:timeout connecting to a provider | {} | the call fails, surely not taken
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		//bound:timeout the TLS handshake with a provider | {} | the call fails
		TLSHandshakeTimeout: 5 * time.Second,
		//bound:timeout the beginning of a provider's answer | {} | the call's outcome is unknown
		ResponseHeaderTimeout: 50 * time.Second,
		//bound:pool idle connections to a provider's host | {} | more are closed
		MaxIdleConnsPerHost: 16,
		//bound:pool connections to a provider's host | {} | calls wait for one
		MaxConnsPerHost: 128,
		//bound:timeout an idle connection to a provider | {} | it is closed
		IdleConnTimeout:   90 * time.Second,
		ForceAttemptHTTP2: true,
	}
	return &http.Client{
		//bound:timeout a call to a provider | {} | its outcome is unknown
		Timeout: time.Minute,
		Transport: otelhttp.NewTransport(base,
			otelhttp.WithTracerProvider(t.TracerProvider()), otelhttp.WithMeterProvider(t.MeterProvider()),
			otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator())),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// masterSecret is the setting, or what the data folder keeps since the first start.
func masterSecret(common Common) ([]byte, error) {
	if common.Secret != "" {
		return []byte(common.Secret), nil
	}
	path := filepath.Join(common.Data, "secret")
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	if err := WriteOnce(path, secret); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	if len(kept) != len(secret) {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %s is damaged", path)
	}
	return kept, nil
}
