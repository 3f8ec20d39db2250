// Package accounts keeps what an adapter must know of its channel's apps and connections: Tables of the
// topics that connect publishes, with the credentials opened by the channel's keeper.
//
// What is guaranteed:
//
//   - Entries of other channels are not kept, and their credentials could not be opened here.
//   - A connection that was disconnected stays, as disabled, so that what still arrives for it is known.
//   - Opened credentials live in memory only, and no longer than the sealed ones they came from.
//   - The last state is kept on the adapter's volume, credentials sealed, for a start while the broker is
//     away.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key://, for those who have no key service
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Topics that connect publishes.
const (
	AppsTopic        = "apps"
	ConnectionsTopic = "connections"
)

// Config of one channel's Accounts.
type Config struct {
	Channel string
	// KeeperURL (gocloud.dev/secrets) opens the channel's credentials.
	KeeperURL string
	// SnapshotDir holds the last state, for a start while the broker is away.
	SnapshotDir string
}

// Validate names every fault.
func (c Config) Validate() error {
	var faults []error
	for name, value := range map[string]string{"Channel": c.Channel, "KeeperURL": c.KeeperURL, "SnapshotDir": c.SnapshotDir} {
		if value == "" {
			faults = append(faults, fmt.Errorf("accounts: %s is required", name))
		}
	}
	return errors.Join(faults...)
}

// Accounts of one channel. Safe for concurrent use.
type Accounts struct {
	keeper      *secrets.Keeper
	apps        *bus.Table[*pb.App]
	connections *bus.Table[*pb.Connection]
	index       *index
	opened      *opener
}

// Open makes the tables; Run fills them.
func Open(ctx context.Context, b *bus.Bus, cfg Config) (*Accounts, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.SnapshotDir, 0o700); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	keeper, err := secrets.OpenKeeper(ctx, cfg.KeeperURL)
	if err != nil {
		return nil, errors.New("accounts: KeeperURL opens no keeper") // the URL may be the key itself
	}
	a := &Accounts{keeper: keeper, index: newIndex(), opened: newOpener(keeper)}
	a.apps = bus.NewTable(b, bus.TableConfig[*pb.App]{
		Topic:    AppsTopic,
		Decode:   keep[pb.App](cfg.Channel),
		Encode:   encode[*pb.App],
		Snapshot: filepath.Join(cfg.SnapshotDir, "apps.snapshot"),
		OnChange: a.appChanged,
	})
	a.connections = bus.NewTable(b, bus.TableConfig[*pb.Connection]{
		Topic:    ConnectionsTopic,
		Decode:   keep[pb.Connection](cfg.Channel),
		Encode:   encode[*pb.Connection],
		Snapshot: filepath.Join(cfg.SnapshotDir, "connections.snapshot"),
		OnChange: a.connectionChanged,
	})
	return a, nil
}

// Run keeps the tables until ctx ends.
func (a *Accounts) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.apps.Run(ctx) })
	g.Go(func() error { return a.connections.Run(ctx) })
	return g.Wait()
}

// Close closes the keeper.
func (a *Accounts) Close() error { return a.keeper.Close() }

// Ready as bus.Table's, for both tables.
func (a *Accounts) Ready() bool { return a.apps.Ready() && a.connections.Ready() }

// Confirm as bus.Table's, for both tables.
func (a *Accounts) Confirm(ctx context.Context, since time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.apps.Confirm(ctx, since) })
	g.Go(func() error { return a.connections.Confirm(ctx, since) })
	return g.Wait()
}

// App by its name (the ref of a webhook), with its secrets. Without SigningSecrets where they could not be
// opened: then nothing can be verified.
func (a *Accounts) App(name string) (App, bool) {
	key, ok := a.index.appNamed(name)
	if !ok {
		return App{}, false
	}
	app, ok := a.apps.Get(key)
	if !ok || app == nil {
		return App{}, false
	}
	return a.opened.app(key, app), true
}

// App is an app with its secrets opened. Never log it.
type App struct {
	*pb.App
	// SigningSecrets, newest first.
	//bound:exempt two at most
	SigningSecrets            channel.Secrets
	ClientSecret, VerifyToken string
}

// Connection by id.
func (a *Accounts) Connection(id string) (*pb.Connection, bool) {
	c, ok := a.connections.Get(id)
	return c, ok && c != nil
}

// Connections are all that are known, those that were disconnected too.
func (a *Accounts) Connections() (all []*pb.Connection) {
	for _, c := range a.connections.All {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// ByAccount finds the connection of an account by its external id.
func (a *Accounts) ByAccount(externalID string) (*pb.Connection, bool) {
	id, ok := a.index.account(externalID)
	if !ok {
		return nil, false
	}
	return a.Connection(id)
}

// GrantedBy finds the connections of what a person granted (see channel.Grantor). It looks at all there are: such events
// are rare.
func (a *Accounts) GrantedBy(grantor string) (granted []*pb.Connection) {
	for _, c := range a.connections.All {
		if grantor != "" && c.GetGrantor() == grantor {
			granted = append(granted, c)
		}
	}
	return granted
}

// Opened gives a connection with its credentials; an error when it has none that open.
func (a *Accounts) Opened(ctx context.Context, c *pb.Connection) (*channel.Connection, error) {
	credentials, err := a.opened.connection(ctx, c)
	if err != nil {
		return nil, err
	}
	conn := &channel.Connection{
		ID: c.GetId(), WorkspaceID: c.GetWorkspaceId(), Channel: c.GetChannel(), ExternalID: c.GetExternalId(),
		Settings: c.GetSettings(), Credentials: credentials,
	}
	if key, ok := a.index.app(c.GetAppId()); ok {
		if app, ok := a.apps.Get(key); ok {
			conn.AppExternalID, conn.AppSecret = app.GetExternalId(), a.opened.app(key, app).ClientSecret
		}
	}
	return conn, nil
}

func (a *Accounts) appChanged(key string, app *pb.App, ok bool) {
	if !ok {
		app = nil
	}
	a.index.setApp(key, app)
	a.opened.keepApp(key, app.GetSealedSecrets())
}

func (a *Accounts) connectionChanged(id string, c *pb.Connection, ok bool) {
	if !ok {
		c = nil
	}
	a.index.setConnection(id, c)
	a.opened.keepConnection(id, c.GetSealedCredentials())
}

// record is an App or a Connection.
type record[T any] interface {
	*T
	proto.Message
	GetChannel() string
}

// keep decodes entries of one channel; those of others become nil.
func keep[T any, P record[T]](channel string) func([]byte) (P, error) {
	return func(value []byte) (P, error) {
		p := P(new(T))
		if err := proto.Unmarshal(value, p); err != nil {
			return nil, fmt.Errorf("accounts: an entry is no %s", p.ProtoReflect().Descriptor().Name())
		}
		if p.GetChannel() != channel {
			return nil, nil
		}
		return p, nil
	}
}

func encode[P proto.Message](p P) ([]byte, error) { return proto.Marshal(p) }
