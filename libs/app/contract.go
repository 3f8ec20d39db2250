// Package app is what every service is: a descriptor, its configuration, what it starts and in which
// order it stops.
package app

import (
	"context"
	"net/http"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"

	"io/fs"
)

// SCAFFOLD

// Service describes a service.
type Service struct {
	Name string
	// Config gives a pointer to the service's settings with their defaults. Fields carry env tags
	// (caarlos0/env), names start with TRIBUTARY_<NAME>_; a method Validate() error joins all faults.
	Config func() any
	// Build makes the parts. It starts nothing.
	Build func(ctx context.Context, d *Deps) (*Parts, error)
}

// Deps is what a service is built on. Standalone makes the same of the embedded parts.
type Deps struct {
	// Settings is what Service.Config gave, filled in and valid.
	Settings any
	Common   Common
	*telemetry.Telemetry
	Clock *clock.Clock
	Bus   *bus.Bus
	// Seal is the registry's client; its clock is Clock. Nil for the registry's own service.
	Seal *seal.Client
	// HTTP is for calls to providers: deadlines set, no redirects to inside.
	HTTP *http.Client
	// OpenDB opens the service's own database (name: "conversation", "registry", …).
	OpenDB func(ctx context.Context, name string, migrations fs.FS) (*sqldb.DB, error)
	// DataDir is a folder of this service's own on a volume of its own (spool, snapshots, key store).
	DataDir string
}

// Common settings that every service has (TRIBUTARY_…): see config.go.
type Common struct {
	// PublicURL is where providers reach the mesh; empty when they can't.
	PublicURL string
	// KeeperURLs by channel (gocloud.dev/secrets).
	KeeperURL string
	// BucketURL (gocloud.dev/blob) holds attachments.
	BucketURL string
	// CacheTTL of plain data keys.
	CacheTTL time.Duration
	// TrustedProxies are CIDRs whose X-Forwarded-* are believed.
	TrustedProxies []string
}

// Parts is what a service consists of.
type Parts struct {
	Routes        []Route
	Topics        []bus.Topic
	Subscriptions []bus.Subscription
	Jobs          []Job
	// Ready are asked by /readyz: an error names what is not ready.
	Ready []Check
	// Holds is what the service stores of persons; published on the topic holders.
	Holds []*pb.Holder_Holding
	// GRPC servers are registered by the registry's service.
	GRPC func(addr string) (Job, error)
	// PreStop runs at TERM before anything stops (drain the spool); Close runs last.
	PreStop func(ctx context.Context) error
	Close   func() error
}

// Route is a ServeMux pattern ("GET /v1/contacts") and its handler. Public ones need no API key.
type Route struct {
	Pattern string
	Handler http.Handler
	Public  bool
}

// Job runs until ctx ends; a job that returns an error before is started again after a pause, counted
// and logged.
type Job struct {
	Name string
	Run  func(ctx context.Context) error
}

// Check of readiness.
type Check struct {
	Name  string
	Ready func() error
}

// Main runs one service as a process: configuration faults are printed all at once and exit with 2.
func Main(s Service) { panic("scaffold") }
