// Package app is what every service is: a descriptor, its configuration, what it starts and in which
// order it stops.
//
// A Service names its settings and builds its Parts; it starts nothing. A Platform is what the services of
// one process share: the bus, telemetry, the clock, where data lies. Platform.Run builds and runs one
// service or several, always in the same order:
//
//	topics -> key registry (gRPC) -> Tables and jobs -> subscriptions -> HTTP
//
// and stops in reverse with a deadline: /readyz says 503 while requests are still served, PreStop drains, HTTP ends, then subscriptions,
// jobs and the registry. What was started is stopped too when a later step fails.
//
// Main runs one service as a process. Standalone makes the Platform of embedded parts and runs all of
// them; no code asks which it is.
package app

import (
	"context"
	"io/fs"
	"net"
	"net/http"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Service describes a service.
type Service struct {
	Name string
	// Config gives a pointer to the service's settings with their defaults. Fields carry the tags env (the
	// whole name, TRIBUTARY_<NAME>_…; caarlos0/env) and doc (a sentence for the README); a method
	// Validate() error joins all faults, each beginning with the setting's name. Nil: it has none.
	Config func() any
	// Needs are the common settings that this service cannot do without: KeeperURL, …
	Needs []string
	// Build makes the parts. It starts nothing.
	Build func(ctx context.Context, d *Deps) (*Parts, error)
}

// Deps is what a service is built on.
type Deps struct {
	// Settings is what Service.Config gave, filled in and valid.
	Settings any
	Common   Common
	*telemetry.Telemetry
	Clock *clock.Clock
	Bus   *bus.Bus
	// Seal is the registry's client; its clock is Clock. It connects when first used: Build must not ask it.
	Seal *seal.Client
	// HTTP is for calls to providers: deadlines set, redirects not followed, nothing of our traces sent.
	HTTP *http.Client
	// OpenDB opens the service's own database (name: "conversation", "registry", …). It is closed after
	// Parts.Close.
	OpenDB func(ctx context.Context, name string, migrations fs.FS) (*sqldb.DB, error)
	// DataDir is a folder of this service's own on a volume of its own (spool, snapshots, key store).
	DataDir string
	// Process names this process and whatever is started in its place, and no other that runs at the same
	// time: the host and the data folder.
	Process string
	// Secret gives 32 bytes for a purpose, the same in every replica of the service and at every start.
	Secret func(purpose string) []byte
}

// Parts is what a service consists of.
//
//bound:exempt filled while a service is built
type Parts struct {
	Routes        []Route
	Topics        []bus.Topic
	Subscriptions []bus.Subscription
	Jobs          []Job
	// Ready are asked by /readyz: an error names what is not ready.
	Ready []Check
	// Holds is what the service stores of persons; published on the topic holders.
	Holds []*pb.Holder_Holding
	// GRPC makes the job that serves the key registry on a listener; it ends, and closes the listener, with
	// its context. The registry's service alone has one.
	GRPC func(l net.Listener) (Job, error)
	// OpenAPI is the service's part of the document at /v1/openapi.yaml.
	OpenAPI []byte
	// PreStop runs at TERM before anything stops (drain the spool); Close runs last.
	PreStop func(ctx context.Context) error
	Close   func() error
}

// Route is a ServeMux pattern ("GET /v1/contacts") and its handler.
type Route struct {
	Pattern string
	Handler http.Handler
	// Public routes need no API key.
	Public bool
	// Stream routes answer for as long as the caller listens: no write deadline, and their context ends when
	// the service stops.
	Stream bool
	// Prompt routes get requests that come whole within requestTimeout; others give their bodies longer.
	Prompt bool
}

// Job runs until ctx ends. One that returns or panics before is started again after a pause, counted and
// logged.
type Job struct {
	Name string
	Run  func(ctx context.Context) error
}

// Check of readiness.
type Check struct {
	Name  string
	Ready func() error
}
