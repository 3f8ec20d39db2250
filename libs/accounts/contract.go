// Package accounts keeps what an adapter must know of apps and connections: Tables of the topics that
// connect publishes, with the credentials opened by the channel's keeper.
package accounts

import (
	"context"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// SCAFFOLD

// Config of one channel's Accounts.
type Config struct {
	Channel string
	// KeeperURL (gocloud.dev/secrets) opens the channel's credentials.
	KeeperURL string
	// SnapshotDir holds the last state, for a start while the broker is away.
	SnapshotDir string
}

// Accounts of one channel.
type Accounts struct{}

// Open makes the tables; Run fills them.
func Open(ctx context.Context, b *bus.Bus, cfg Config) (*Accounts, error) { panic("scaffold") }

// Run keeps the tables until ctx ends.
func (a *Accounts) Run(ctx context.Context) error { panic("scaffold") }

// Ready as bus.Table's.
func (a *Accounts) Ready() bool { panic("scaffold") }

// Confirm as bus.Table's, for both tables.
func (a *Accounts) Confirm(ctx context.Context, since time.Time) error { panic("scaffold") }

// App by its name (the ref of a webhook), with its secrets.
func (a *Accounts) App(name string) (App, bool) { panic("scaffold") }

// App is an app with its secrets opened. Never log it.
type App struct {
	*pb.App
	SigningSecrets channel.Secrets
	ClientSecret   string
}

// Connection by id.
func (a *Accounts) Connection(id string) (*pb.Connection, bool) { panic("scaffold") }

// ByAccount finds the connection of an account by its external id.
func (a *Accounts) ByAccount(externalID string) (*pb.Connection, bool) { panic("scaffold") }

// Opened gives a connection with its credentials; an error when it has none that open.
func (a *Accounts) Opened(ctx context.Context, c *pb.Connection) (*channel.Connection, error) {
	panic("scaffold")
}

// OnActive is called (in a goroutine of Run) when a connection becomes active again.
func (a *Accounts) OnActive(f func(connectionID string)) { panic("scaffold") }
