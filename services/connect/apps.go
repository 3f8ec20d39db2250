package connect

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

type appRow struct {
	id, workspaceID, channel, name, clientID, externalID string
	sealed                                               []byte
	createdAt                                            int64
}

const appColumns = `id, workspace_id, channel, name, client_id, external_id, sealed_secrets, created_at`

func (r *appRow) scan(scan func(...any) error) error {
	return scan(&r.id, &r.workspaceID, &r.channel, &r.name, &r.clientID, &r.externalID, &r.sealed, &r.createdAt)
}

// providerApp is the object of the API. Its secrets are never among what is given back.
type providerApp struct {
	ID         string    `json:"id"`
	Channel    string    `json:"channel"`
	Name       string    `json:"name"`
	ClientID   string    `json:"client_id,omitempty"`
	ExternalID string    `json:"external_id,omitempty"`
	Operator   bool      `json:"operator"`
	WebhookURL string    `json:"webhook_url"`
	CreatedAt  time.Time `json:"created_at"`
}

func (s *service) appObject(r appRow) providerApp {
	return providerApp{
		ID: r.id, Channel: r.channel, Name: r.name, ClientID: r.clientID, ExternalID: r.externalID, Operator: r.workspaceID == "",
		WebhookURL: s.webhook(r.channel, r.name), CreatedAt: instant(r.createdAt),
	}
}

// webhook is where a provider sends its events.
func (s *service) webhook(channel, ref string) string {
	return s.publicURL + "/webhooks/" + channel + "/" + ref
}

type listApps struct{ endpointx.Paging }

// listApps gives the workspace's own and the operator's.
func (s *service) listApps(ctx context.Context, req listApps) (page endpointx.Page[providerApp], err error) {
	at, id, err := position(req.Paging)
	if err != nil {
		return page, err
	}
	var items []providerApp
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		items = nil
		return sqldb.Query(ctx, tx, `SELECT `+appColumns+` FROM apps WHERE workspace_id IN ($1, '') AND deleted_at = 0 AND (created_at, id) > ($2, $3)
			ORDER BY created_at, id LIMIT $4`, []any{workspaceOf(ctx), at, id, req.Size() + 1}, func(rows sqldb.Row) error {
			var r appRow
			err := r.scan(rows.Scan)
			items = append(items, s.appObject(r))
			return err
		})
	})
	return pageOf(items, req.Paging, func(a providerApp) (time.Time, string) { return a.CreatedAt, a.ID }), err
}

// appSecrets are what a provider gives with an app.
type appSecrets struct {
	ClientSecret          string `json:"client_secret"`
	SigningSecret         string `json:"signing_secret"`
	PreviousSigningSecret string `json:"previous_signing_secret"`
	VerifyToken           string `json:"verify_token"`
}

func (a appSecrets) proto() *pb.AppSecrets {
	return &pb.AppSecrets{
		ClientSecret: a.ClientSecret, SigningSecret: a.SigningSecret, PreviousSigningSecret: a.PreviousSigningSecret,
		VerifyToken: a.VerifyToken,
	}
}

func (a appSecrets) validate(f faults, features channel.Features) {
	for name, value := range map[string]string{
		"client_secret": a.ClientSecret, "signing_secret": a.SigningSecret, "previous_signing_secret": a.PreviousSigningSecret, "verify_token": a.VerifyToken,
	} {
		f.text("secrets/"+name, value, 4096)
		if value == "" && slices.Contains(features.AppSecrets, name) {
			f.add("secrets/"+name, "is required")
		}
	}
}

type createApp struct {
	Channel    string     `json:"channel"`
	Name       string     `json:"name"`
	ClientID   string     `json:"client_id"`
	ExternalID string     `json:"external_id"`
	Secrets    appSecrets `json:"secrets"`
	// Operator makes it one for all workspaces; an operator's key may.
	Operator bool `json:"operator"`
}

// appName stands in the address of webhooks.
var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (r *createApp) Validate() error {
	faults := faults{}
	features, ok := channel.Lookup(r.Channel)
	switch {
	case !ok:
		faults.add("channel", "is not a channel there is")
	case features.Ref != "app":
		faults.add("channel", "has no apps")
	default:
		r.Secrets.validate(faults, features)
	}
	if !appName.MatchString(r.Name) {
		faults.add("name", "must be 1 to 63 small letters, digits and dashes")
	}
	faults.text("client_id", r.ClientID, 200)
	faults.text("external_id", r.ExternalID, 200)
	return faults.problem()
}

func (s *service) createApp(ctx context.Context, req createApp) (a providerApp, err error) {
	caller, _ := access.From(ctx)
	row := appRow{
		id: newID(), workspaceID: caller.WorkspaceID, channel: req.Channel, name: req.Name, clientID: req.ClientID,
		externalID: req.ExternalID, createdAt: s.now().UnixMicro(),
	}
	if req.Operator {
		if !caller.Operator {
			return a, endpointx.Invalid(map[string]string{"operator": "is the operator's alone"})
		}
		row.workspaceID = ""
	}
	if row.sealed, err = s.keepers.seal(ctx, req.Channel, req.Secrets.proto()); err != nil {
		return a, err
	}
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		id, _, err := s.idem.Do(ctx, tx, func() (string, error) {
			_, err := tx.ExecContext(ctx, `INSERT INTO apps (`+appColumns+`, deleted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
				row.id, row.workspaceID, row.channel, row.name, row.clientID, row.externalID, row.sealed, row.createdAt)
			if err != nil {
				return "", err
			}
			return row.id, mark(ctx, tx, appEntry(row.channel, row.name))
		})
		if err != nil {
			return err
		}
		kept, err := visibleApp(ctx, tx, id)
		a = s.appObject(kept)
		return err
	})
	if sqldb.IsUnique(err) {
		return a, endpointx.Conflict("the channel has an app of this name")
	}
	if err != nil {
		return providerApp{}, err
	}
	s.relay.flush(ctx)
	return a, nil
}

type changeApp struct {
	ID         string      `path:"id" json:"-"`
	ClientID   *string     `json:"client_id"`
	ExternalID *string     `json:"external_id"`
	Secrets    *appSecrets `json:"secrets"`
}

func (r *changeApp) Validate() error {
	faults := faults{}
	for field, value := range map[string]*string{"client_id": r.ClientID, "external_id": r.ExternalID} {
		if value != nil {
			faults.text(field, *value, 200)
		}
	}
	return faults.problem()
}

// changeApp changes what is given; secrets are given all together, the one before as
// previous_signing_secret while a provider still signs with it.
func (s *service) changeApp(ctx context.Context, req changeApp) (a providerApp, err error) {
	var sealed []byte
	if req.Secrets != nil {
		var r appRow
		if err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) { r, err = ownApp(ctx, tx, req.ID); return err }); err != nil {
			return a, err
		}
		faults := faults{}
		features, _ := channel.Lookup(r.channel)
		req.Secrets.validate(faults, features)
		if err := faults.problem(); err != nil {
			return a, err
		}
		if sealed, err = s.keepers.seal(ctx, r.channel, req.Secrets.proto()); err != nil {
			return a, err
		}
	}
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := ownApp(ctx, tx, req.ID)
		if err != nil {
			return err
		}
		if req.ClientID != nil {
			r.clientID = *req.ClientID
		}
		if req.ExternalID != nil {
			r.externalID = *req.ExternalID
		}
		if sealed != nil {
			r.sealed = sealed
		}
		_, err = tx.ExecContext(ctx, `UPDATE apps SET client_id = $2, external_id = $3, sealed_secrets = $4 WHERE id = $1`,
			r.id, r.clientID, r.externalID, r.sealed)
		a = s.appObject(r)
		return errors.Join(err, mark(ctx, tx, appEntry(r.channel, r.name)))
	})
	if err != nil {
		return providerApp{}, err
	}
	s.relay.flush(ctx)
	return a, nil
}

// deleteApp takes an app, and its secrets, away; not while a connection works through it.
func (s *service) deleteApp(ctx context.Context, req byID) (none struct{}, err error) {
	now := s.now().UnixMicro()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := ownApp(ctx, tx, req.ID)
		if err != nil {
			return err
		}
		// The row is locked before its connections are counted; who connects locks it too.
		_, err = tx.ExecContext(ctx, `UPDATE apps SET deleted_at = $2, sealed_secrets = NULL WHERE id = $1`, r.id, now)
		if err != nil {
			return err
		}
		var used int
		err = tx.QueryRowContext(ctx, `SELECT count(*) FROM connections WHERE app_id = $1 AND status <> $2`, r.id, disabled).Scan(&used)
		if err != nil {
			return err
		}
		if used > 0 {
			return endpointx.Conflict("connections work through this app: disconnect them first")
		}
		return mark(ctx, tx, appEntry(r.channel, r.name))
	})
	if err != nil {
		return none, err
	}
	s.relay.flush(ctx)
	return none, nil
}

// visibleApp is an app that the caller may connect through: the workspace's own, or the operator's.
func visibleApp(ctx context.Context, tx *sqldb.Tx, id string) (r appRow, err error) {
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+appColumns+` FROM apps WHERE id = $1 AND workspace_id IN ($2, '') AND deleted_at = 0`,
		id, workspaceOf(ctx)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = endpointx.NotFound("app")
	}
	return r, err
}

// ownApp is an app that the caller may change: the workspace's own, or, for the operator, the operator's.
func ownApp(ctx context.Context, tx *sqldb.Tx, id string) (appRow, error) {
	r, err := visibleApp(ctx, tx, id)
	if caller, _ := access.From(ctx); err == nil && r.workspaceID == "" && !caller.Operator {
		return appRow{}, endpointx.NotFound("app")
	}
	return r, err
}

// readAppRecord is an app as the adapters are told.
func readAppRecord(ctx context.Context, tx *sqldb.Tx, e entry) (*pb.App, error) {
	channel, name := e.split()
	var r appRow
	err := r.scan(tx.QueryRowContext(ctx, `SELECT `+appColumns+` FROM apps WHERE channel = $1 AND name = $2 AND deleted_at = 0`, channel, name).Scan)
	if err != nil {
		return nil, err
	}
	return &pb.App{
		Id: r.id, Channel: r.channel, Name: r.name, WorkspaceId: r.workspaceID, ClientId: r.clientID, ExternalId: r.externalID,
		SealedSecrets: r.sealed,
	}, nil
}
