// Package privacy keeps the keys by which people can be read, and erases people: the key registry, requests
// and their certificates.
package privacy

import (
	"context"
	_ "embed"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key://, for those who have no key service
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/endpointx"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/privacy/erasure"
	"tributary.dev/services/privacy/registry"
	"tributary.dev/services/privacy/registry/keystore"
)

//go:embed openapi.yaml
var openAPI []byte

// Service is the privacy service.
var Service = app.Service{Name: "privacy", Config: func() any { return DefaultConfig() }, Build: build}

const day = 24 * time.Hour

// What certificates say of copies that outlive an erasure.
const (
	seenFor   = 45 * day
	topicsFor = 14 * day
	// A record may become a dead letter on its last day.
	deadFor = topicsFor + bus.DeadRetention
)

func build(ctx context.Context, d *app.Deps) (*app.Parts, error) {
	cfg := d.Settings.(*Config)
	if cfg.KeyStore == "" {
		cfg.KeyStore = filepath.Join(d.DataDir, "keystore")
	}
	if cfg.Registry.BackupDir == "" {
		cfg.Registry.BackupDir = filepath.Join(d.DataDir, "backups")
	}
	registryDB, err := d.OpenDB(ctx, "registry", registry.Migrations)
	if err != nil {
		return nil, err
	}
	requestsDB, err := d.OpenDB(ctx, "privacy", erasure.Migrations)
	if err != nil {
		return nil, err
	}
	keeper, err := secrets.OpenKeeper(ctx, cfg.KeeperURL)
	if err != nil {
		return nil, errors.New("TRIBUTARY_REGISTRY_KEEPER_URL: opens no keeper") // the URL may be the key itself
	}
	keys, err := keystore.OpenFolder(cfg.KeyStore, keeper)
	if err != nil {
		return nil, errors.Join(err, keeper.Close())
	}
	tables := erasure.NewTables(d.Bus)
	collector := erasure.NewCollector(d.Bus, tables.Holders, d.Clock.Sent)
	reg, err := registry.Open(ctx, cfg.Registry, registry.Deps{
		DB: registryDB, Keys: keys, Bus: d.Bus, Holders: collector, Log: d.Log, Meter: d.Meter, Now: d.Clock.Sent,
	})
	if err != nil {
		return nil, errors.Join(err, keeper.Close())
	}
	access, err := registry.NewAccess(cfg.Access)
	if err != nil {
		return nil, errors.Join(err, keeper.Close())
	}
	requests := erasure.New(erasure.Config{
		CacheTTL: d.Common.CacheTTL, CacheMargin: cfg.CacheMargin, AskAgain: cfg.AskAgain, Poll: time.Second,
		SeenFor: seenFor, TopicsFor: topicsFor, DeadFor: deadFor, SpoolFor: cfg.Registry.SpoolsReadable(), ErasedListFor: cfg.Registry.ErasedListed(),
	}, requestsDB, reg, d.Bus, tables, collector, reg.Now, d.Log)
	idempotency := endpointx.NewIdempotency(requestsDB, d.Secret("idempotency"), reg.Now)
	var serves atomic.Bool // the ledger is applied

	return &app.Parts{
		Routes: requests.Routes(idempotency),
		Topics: append(registry.Topics(),
			bus.Topic{Name: "contacts", Compacted: true},
			bus.Topic{Name: "privacy.acks", Retention: 90 * day}),
		Subscriptions: []bus.Subscription{requests.Answers()},
		Jobs: append(reg.Jobs(),
			app.Job{Name: "tables", Run: tables.Run},
			app.Job{Name: "collector", Run: collector.Run},
			app.Job{Name: "erasure", Run: requests.Run},
			app.Job{Name: "idempotency", Run: idempotency.Run},
			app.Job{Name: "certificate-key", Run: func(ctx context.Context) error { return publishKey(ctx, requests, d.Common.Data) }},
		),
		Ready: []app.Check{{Name: "tables", Ready: tables.Ready}, {Name: "registry", Ready: func() error {
			if !serves.Load() {
				return errors.New("the erasure ledger is not applied yet")
			}
			return nil
		}}},
		OpenAPI: openAPI,
		GRPC: func(l net.Listener) (app.Job, error) {
			return app.Job{Name: "registry", Run: func(ctx context.Context) error {
				if err := reg.Usable(ctx); err != nil {
					return err
				}
				if err := applyLedger(ctx, d.Bus, reg, requests); err != nil {
					return err
				}
				serves.Store(true)
				defer serves.Store(false)
				return registry.Serve(ctx, reg.NewServer(access), l)
			}}, nil
		},
		Close: keeper.Close,
	}, nil
}

// applyLedger erases again who was erased, before the registry answers anybody: its database may have been
// restored from before that. What requests are still erasing is theirs. It waits for a broker that is away.
func applyLedger(ctx context.Context, b *bus.Bus, reg *registry.Registry, requests *erasure.Service) error {
	ledger := bus.NewTable(b, bus.TableConfig[*pb.Erasure]{Topic: "privacy.erasures", Decode: func(v []byte) (*pb.Erasure, error) {
		e := &pb.Erasure{}
		return e, proto.Unmarshal(v, e)
	}})
	reading, stop := context.WithCancel(ctx)
	defer stop()
	g, reading := errgroup.WithContext(reading)
	g.Go(func() error { return ledger.Run(reading) })
	if err := ledger.WaitReady(reading); err != nil {
		return errors.Join(err, g.Wait())
	}
	var entries []*pb.Erasure
	for _, e := range ledger.All {
		entries = append(entries, e)
	}
	stop()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	running, err := requests.Running(ctx)
	if err != nil {
		return err
	}
	return reg.ApplyLedger(ctx, entries, func(id string) bool { return running[id] })
}

// publishKey keeps the public key of certificates where those who check them on this machine look for it.
func publishKey(ctx context.Context, requests *erasure.Service, folder string) error {
	text, err := requests.PublicKey(ctx)
	if err != nil {
		return err
	}
	if err := app.WriteOnce(filepath.Join(folder, "certificate-key.pem"), text); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	<-ctx.Done()
	return nil
}
