package connect

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// Status of an authorisation.
const (
	pending  = "pending"
	choosing = "choosing"
	finished = "done"
	failed   = "failed"
	expired  = "expired" // is never stored: the time says it
)

// authorisationFor is how long an account's owner may take.
//
//bound:timeout connecting an account through a link | {} | a new link is needed
const authorisationFor = 10 * time.Minute

type authorisationRow struct {
	id, workspaceID, channel, appID, shop, returnURL, status, fault, connectionID string
	browser, state, accounts                                                      []byte
	createdAt, expiresAt                                                          int64
}

const authorisationColumns = `id, workspace_id, channel, app_id, shop, return_url, status, error, connection_id, browser_hash, state_hash, sealed_accounts, created_at, expires_at`

func (r *authorisationRow) scan(scan func(...any) error) error {
	return scan(&r.id, &r.workspaceID, &r.channel, &r.appID, &r.shop, &r.returnURL, &r.status, &r.fault, &r.connectionID,
		&r.browser, &r.state, &r.accounts, &r.createdAt, &r.expiresAt)
}

// write keeps a row as it now is.
func (r *authorisationRow) write(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO authorisations (`+authorisationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, error = excluded.error, connection_id = excluded.connection_id,
		browser_hash = excluded.browser_hash, state_hash = excluded.state_hash, sealed_accounts = excluded.sealed_accounts`,
		r.id, r.workspaceID, r.channel, r.appID, r.shop, r.returnURL, r.status, r.fault, r.connectionID, r.browser, r.state, r.accounts,
		r.createdAt, r.expiresAt)
	return err
}

// authorisation is the object of the API.
type authorisation struct {
	ID           string    `json:"id"`
	Channel      string    `json:"channel"`
	AppID        string    `json:"app_id"`
	Shop         string    `json:"shop,omitempty"`
	Status       string    `json:"status"`
	Reason       *reason   `json:"reason,omitempty"`
	ConnectionID string    `json:"connection_id,omitempty"`
	URL          string    `json:"url,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`
}

func (s *service) authorisationObject(r authorisationRow) authorisation {
	a := authorisation{
		ID: r.id, Channel: r.channel, AppID: r.appID, Shop: r.shop, Status: r.status, ConnectionID: r.connectionID, Reason: reasonOf(r.fault),
		CreatedAt: instant(r.createdAt), ExpiresAt: instant(r.expiresAt),
	}
	switch {
	case r.status == finished:
	case s.over(r):
		a.Status = expired
	default:
		a.URL = s.publicURL + s.links.path(r.id)
	}
	return a
}

func (s *service) over(r authorisationRow) bool { return s.now().UnixMicro() >= r.expiresAt }

type authorise struct {
	Channel   string `json:"channel"`
	AppID     string `json:"app_id"`
	Shop      string `json:"shop"`
	ReturnURL string `json:"return_url"`
}

func (r *authorise) Validate() error {
	faults := faults{}
	if _, ok := channel.Lookup(r.Channel); !ok {
		faults.add("channel", "is not a channel there is")
	}
	if r.AppID == "" {
		faults.add("app_id", "is required")
	}
	switch isShop := r.Channel == "shopify"; {
	case isShop && !provider.ShopDomain(r.Shop):
		faults.add("shop", "must be the shop's own domain, as acme.myshopify.com")
	case !isShop && r.Shop != "":
		faults.add("shop", "is not for this channel")
	}
	faults.text("return_url", r.ReturnURL, 2000)
	return faults.problem()
}

// authorise makes a link to give to an account's owner. Repeated under the same Idempotency-Key it is the same link.
func (s *service) authorise(ctx context.Context, req authorise) (a authorisation, err error) {
	if _, ok := s.providers.Of(req.Channel, nil).(provider.Authoriser); !ok {
		return a, endpointx.Invalid(map[string]string{"channel": "has no authorisation: connect the account with its credentials"})
	}
	if req.ReturnURL != "" && !s.mayReturnTo(req.ReturnURL) {
		return a, endpointx.Invalid(map[string]string{"return_url": "is not below one of TRIBUTARY_CONNECT_RETURN_ORIGINS"})
	}
	if s.publicURL == "" {
		return a, endpointx.Conflict("the mesh has no public address (TRIBUTARY_PUBLIC_URL) that a provider could send a browser back to")
	}
	app, err := s.openApp(ctx, req.Channel, req.AppID)
	if err != nil {
		return a, err
	}
	if app.ClientID == "" || app.ClientSecret == "" {
		return a, endpointx.Invalid(map[string]string{"app_id": "needs a client_id and a client_secret for that"})
	}
	now := s.now()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		id, _, err := s.idem.Do(ctx, tx, func() (string, error) {
			r := authorisationRow{
				id: newID(), workspaceID: workspaceOf(ctx), channel: req.Channel, appID: req.AppID, shop: req.Shop, returnURL: req.ReturnURL,
				status: pending, createdAt: now.UnixMicro(), expiresAt: now.Add(authorisationFor).UnixMicro(),
			}
			return r.id, r.write(ctx, tx)
		})
		if err != nil {
			return err
		}
		r, err := readAuthorisation(ctx, tx, id)
		a = s.authorisationObject(r)
		return err
	})
	return a, err
}

func (s *service) getAuthorisation(ctx context.Context, req byID) (a authorisation, err error) {
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		r, err := readAuthorisation(ctx, tx, req.ID)
		if err == nil && r.workspaceID != workspaceOf(ctx) {
			err = endpointx.NotFound("authorisation")
		}
		a = s.authorisationObject(r)
		return err
	})
	return a, err
}

// readAuthorisation finds it whosever it is: a link is its own key.
func readAuthorisation(ctx context.Context, tx *sqldb.Tx, id string) (r authorisationRow, err error) {
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+authorisationColumns+` FROM authorisations WHERE id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = endpointx.NotFound("authorisation")
	}
	return r, err
}

// lockAuthorisation is readAuthorisation for who is about to write it.
func lockAuthorisation(ctx context.Context, tx *sqldb.Tx, id string) (authorisationRow, error) {
	if _, err := tx.ExecContext(ctx, `UPDATE authorisations SET status = status WHERE id = $1`, id); err != nil {
		return authorisationRow{}, err
	}
	return readAuthorisation(ctx, tx, id)
}

// mayReturnTo: a browser is sent on to origins that the operator has named, and nowhere else.
func (s *service) mayReturnTo(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.User == nil && u.Opaque == "" && slices.Contains(s.returnOrigins, u.Scheme+"://"+u.Host)
}

// authorisationsKept is how long an authorisation can still be asked after.
//
//bound:cache authorisations that are over, in the database | {} | they are 404
const authorisationsKept = 24 * time.Hour

// sweepAuthorisations forgets what is over: what there was to choose from at once, the rest after a day.
func (s *service) sweepAuthorisations(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		now := s.now()
		err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
			if _, err := tx.ExecContext(ctx, `UPDATE authorisations SET sealed_accounts = NULL, state_hash = NULL
				WHERE expires_at <= $1 AND (sealed_accounts IS NOT NULL OR state_hash IS NOT NULL)`, now.UnixMicro()); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `DELETE FROM authorisations WHERE expires_at <= $1`, now.Add(-authorisationsKept).UnixMicro())
			return err
		})
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// openApp is an app of a channel that the caller may connect through, with its secrets.
func (s *service) openApp(ctx context.Context, channel, id string) (provider.App, error) {
	var r appRow
	err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) { r, err = visibleApp(ctx, tx, id); return err })
	var problem *endpointx.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound || err == nil && r.channel != channel {
		err = endpointx.Invalid(map[string]string{"app_id": "is not an app of this channel"})
	}
	if err != nil {
		return provider.App{}, err
	}
	return s.opened(ctx, r)
}

func (s *service) opened(ctx context.Context, r appRow) (provider.App, error) {
	secrets, err := s.keepers.openApp(ctx, r.channel, r.sealed)
	return provider.App{
		ClientID: r.clientID, ClientSecret: secrets.GetClientSecret(), ExternalID: r.externalID, VerifyToken: secrets.GetVerifyToken(),
		WebhookURL: s.webhook(r.channel, r.name),
	}, err
}
