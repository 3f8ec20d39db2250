package connect

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// Service is the descriptor.
var Service = app.Service{
	Name: "connect",
	Config: func() any {
		return &Config{ReconcileEvery: time.Minute, CheckEvery: time.Hour, Providers: provider.Defaults()}
	},
	Needs: []string{app.KeeperURL}, // credentials are stored sealed
	Build: build,
}

// Config is connect's own settings.
type Config struct {
	ReconcileEvery time.Duration `env:"TRIBUTARY_CONNECT_RECONCILE_EVERY" doc:"how often the topics are compared with the database, and what differs is published again"`
	NewOwnerKey    bool          `env:"TRIBUTARY_CONNECT_NEW_OWNER_KEY" doc:"at this start, make a further owner key of the operator's workspace and write it to api-key in the data folder, if that file is not there: for those who lost theirs"`

	CheckEvery    time.Duration `env:"TRIBUTARY_CONNECT_CHECK_EVERY" doc:"how often each connection's provider is asked whether it still takes the credentials"`
	ReturnOrigins []string      `env:"TRIBUTARY_CONNECT_RETURN_ORIGINS" doc:"origins (https://app.example) that a browser may be sent on to once an account is connected"`

	Providers provider.Config
}

// Validate joins all faults.
func (c *Config) Validate() error {
	var faults []error
	if c.ReconcileEvery <= 0 {
		faults = append(faults, errors.New("TRIBUTARY_CONNECT_RECONCILE_EVERY: must be more than 0"))
	}
	if c.CheckEvery < time.Second {
		faults = append(faults, errors.New("TRIBUTARY_CONNECT_CHECK_EVERY: must be at least 1s"))
	}
	for _, origin := range c.ReturnOrigins {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host || (u.Scheme != "https" && u.Scheme != "http") {
			faults = append(faults, errors.New("TRIBUTARY_CONNECT_RETURN_ORIGINS: must be origins (https://app.example), without a path"))
		}
	}
	return errors.Join(append(faults, c.Providers.Validate())...)
}

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed openapi.yaml
var openAPI []byte

// service is what the handlers stand on.
type service struct {
	db        *sqldb.DB
	idem      *endpointx.Idempotency
	relay     *relay
	keepers   *keepers
	now       func() time.Time
	publicURL string
	log       *slog.Logger

	providers     *provider.Providers
	checkEvery    time.Duration
	links         links
	pages         *pages
	returnOrigins []string
	// authorisations that came to an end, and grants that were to be taken back.
	authorisations, withdrawn metric.Int64Counter
}

func build(ctx context.Context, d *app.Deps) (*app.Parts, error) {
	cfg := d.Settings.(*Config)
	db, err := d.OpenDB(ctx, "connect", migrations)
	if err != nil {
		return nil, err
	}
	keepers, err := openKeepers(ctx, d.Common)
	if err != nil {
		return nil, err
	}
	if err := bootstrap(ctx, db, d.Common.Data, cfg.NewOwnerKey, d.Clock.Now, d.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("bootstrap: %w", err), keepers.close())
	}
	s, err := newService(cfg, d, db, keepers)
	if err != nil {
		return nil, errors.Join(err, keepers.close())
	}
	reconcile, err := newReconciler(db, d.Bus, s.relay, cfg.ReconcileEvery, d.Meter)
	if err != nil {
		return nil, errors.Join(err, keepers.close())
	}
	revocations, err := newRevocations(s, d.Meter)
	if err != nil {
		return nil, errors.Join(err, keepers.close())
	}
	jobs, err := s.jobs(d.Meter)
	if err != nil {
		return nil, errors.Join(err, keepers.close())
	}
	return &app.Parts{
		Routes: s.routes(),
		Topics: append(accounts.Topics(), access.Topic(), inbound.Revocations()),
		Subscriptions: []bus.Subscription{{
			Group: "connect", Topics: []string{inbound.Revocations().Name}, Handle: revocations.handle,
		}},
		Jobs:    append(jobs, app.Job{Name: "reconcile", Run: reconcile.run}),
		Ready:   []app.Check{{Name: "relay", Ready: s.relay.ready}},
		OpenAPI: openAPI,
		Close:   keepers.close,
	}, nil
}

func newService(cfg *Config, d *app.Deps, db *sqldb.DB, keepers *keepers) (*service, error) {
	allowed := make([]netip.Prefix, len(d.Common.MediaAllow))
	for i, cidr := range d.Common.MediaAllow {
		var err error
		if allowed[i], err = netip.ParsePrefix(cidr); err != nil {
			return nil, err
		}
	}
	providers, err := provider.New(cfg.Providers, d.HTTP, allowed)
	if err != nil {
		return nil, err
	}
	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	ended, err := d.Meter.Int64Counter("tributary_authorisations_total",
		metric.WithDescription("Accounts that their owners were asked to connect, by channel and outcome."))
	if err != nil {
		return nil, err
	}
	withdrawn, err := d.Meter.Int64Counter("tributary_withdrawals_total",
		metric.WithDescription("Grants of disconnected accounts that were to be taken back at their provider, by what came of it."))
	return &service{
		db:             db,
		idem:           endpointx.NewIdempotency(db, d.Secret("idempotency"), d.Clock.Now),
		relay:          newRelay(db, d.Bus, d.Clock, d.Log),
		keepers:        keepers,
		now:            d.Clock.Now,
		publicURL:      strings.TrimSuffix(d.Common.PublicURL, "/"),
		log:            d.Log,
		providers:      providers,
		checkEvery:     cfg.CheckEvery,
		links:          links{secret: d.Secret("authorisations"), secure: strings.HasPrefix(d.Common.PublicURL, "https://")},
		pages:          pages,
		returnOrigins:  cfg.ReturnOrigins,
		authorisations: ended,
		withdrawn:      withdrawn,
	}, err
}

func (s *service) jobs(meter metric.Meter) ([]app.Job, error) {
	checks, err := newChecks(s, meter)
	if err != nil {
		return nil, err
	}
	refreshes, err := newRefreshes(s, meter)
	if err != nil {
		return nil, err
	}
	return []app.Job{
		{Name: "relay", Run: s.relay.run},
		{Name: "idempotency", Run: s.idem.Run},
		{Name: "checks", Run: checks.run},
		{Name: "refreshes", Run: refreshes.run},
		{Name: "withdrawals", Run: s.takeBackEver},
		{Name: "authorisations", Run: s.sweepAuthorisations},
	}, nil
}

func (s *service) routes() []app.Route {
	public := func(pattern string, h func(http.ResponseWriter, *http.Request) error) app.Route {
		return app.Route{Pattern: pattern, Handler: s.pageHandler(h), Public: true}
	}
	route := func(pattern string, h http.Handler) app.Route { return app.Route{Pattern: pattern, Handler: h} }
	read := func(scope string) endpointx.Options { return endpointx.Options{Scope: scope} }
	create := func(scope string) endpointx.Options {
		return endpointx.Options{Scope: scope, Status: http.StatusCreated, Idempotency: s.idem}
	}
	change := func(scope string) endpointx.Options { return endpointx.Options{Scope: scope} }
	remove := func(scope string) endpointx.Options {
		return endpointx.Options{Scope: scope, Status: http.StatusNoContent}
	}
	return []app.Route{
		route("GET /v1/workspaces", endpointx.JSON(read(access.WorkspacesWrite), s.listWorkspaces)),
		route("POST /v1/workspaces", endpointx.JSON(create(access.WorkspacesWrite), s.createWorkspace)),
		route("GET /v1/members", endpointx.JSON(read(access.MembersRead), s.listMembers)),
		route("POST /v1/members", endpointx.JSON(create(access.MembersWrite), s.createMember)),
		route("GET /v1/keys", endpointx.JSON(read(access.KeysRead), s.listKeys)),
		route("POST /v1/keys", endpointx.JSON(create(access.KeysWrite), s.createKey)),
		route("DELETE /v1/keys/{id}", endpointx.JSON(remove(access.KeysWrite), s.revokeKey)),
		route("GET /v1/apps", endpointx.JSON(read(access.AppsRead), s.listApps)),
		route("POST /v1/apps", endpointx.JSON(create(access.AppsWrite), s.createApp)),
		route("PATCH /v1/apps/{id}", endpointx.JSON(change(access.AppsWrite), s.changeApp)),
		route("DELETE /v1/apps/{id}", endpointx.JSON(remove(access.AppsWrite), s.deleteApp)),
		route("GET /v1/connections", endpointx.JSON(read(access.ConnectionsRead), s.listConnections)),
		route("POST /v1/connections", endpointx.JSON(create(access.ConnectionsWrite), s.connectAccount)),
		route("GET /v1/connections/{id}", endpointx.JSON(read(access.ConnectionsRead), s.getConnection)),
		route("PATCH /v1/connections/{id}", endpointx.JSON(change(access.ConnectionsWrite), s.changeConnection)),
		route("DELETE /v1/connections/{id}", endpointx.JSON(remove(access.ConnectionsWrite), s.disconnect)),
		route("POST /v1/connections/authorisations", endpointx.JSON(create(access.ConnectionsWrite), s.authorise)),
		route("GET /v1/connections/authorisations/{id}", endpointx.JSON(read(access.ConnectionsRead), s.getAuthorisation)),
		route("PUT /v1/connections/{id}/orders/{order_id}/note", endpointx.JSON(change(access.CommerceWrite), s.setOrderNote)),
		route("PUT /v1/connections/{id}/customers/{customer_id}/tags", endpointx.JSON(change(access.CommerceWrite), s.setCustomerTags)),
		public("GET /connect/{link}", s.linkPage),
		public("POST /connect/{link}", s.linkForm),
		public("GET /connect/callback/{channel}", s.callback),
	}
}
