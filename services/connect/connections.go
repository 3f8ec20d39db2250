package connect

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/connect/provider"
)

// Status of a connection.
const (
	active      = "active"
	reauthorise = "reauthorise"
	revoked     = "revoked"
	disabled    = "disabled"
)

type connectionRow struct {
	id, workspaceID, channel, externalID, name, status, appID string
	settings                                                  map[string]string
	sealed                                                    []byte
	authorisedAt, createdAt, updatedAt                        int64
	// statusReason and healthReason are words; granted: by OAuth.
	statusReason, health, healthReason string
	granted                            bool
	// grantor is a pseudonym of who granted it; see channel.Grantor.
	grantor              string
	refresh              []byte
	expiresAt, refreshAt int64
	checkedAt, checkAt   int64
}

const connectionColumns = `id, workspace_id, channel, external_id, name, status, app_id, settings, sealed_credentials, authorised_at, created_at, updated_at,
	status_reason, granted, sealed_refresh, expires_at, refresh_at, health, health_reason, checked_at, check_at, grantor`

func (r *connectionRow) scan(scan func(...any) error) error {
	var settings string
	var granted int
	err := scan(&r.id, &r.workspaceID, &r.channel, &r.externalID, &r.name, &r.status, &r.appID, &settings, &r.sealed,
		&r.authorisedAt, &r.createdAt, &r.updatedAt,
		&r.statusReason, &granted, &r.refresh, &r.expiresAt, &r.refreshAt, &r.health, &r.healthReason, &r.checkedAt, &r.checkAt, &r.grantor)
	if err != nil {
		return err
	}
	r.granted = granted == 1
	return json.Unmarshal([]byte(settings), &r.settings)
}

// write keeps a row as it now is, and has it published.
func (r *connectionRow) write(ctx context.Context, tx *sqldb.Tx) error {
	settings, err := json.Marshal(r.settings)
	if err != nil {
		return err
	}
	granted := 0
	if r.granted {
		granted = 1
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO connections (`+connectionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, status = excluded.status, app_id = excluded.app_id, settings = excluded.settings,
		sealed_credentials = excluded.sealed_credentials, authorised_at = excluded.authorised_at, updated_at = excluded.updated_at,
		status_reason = excluded.status_reason, granted = excluded.granted, sealed_refresh = excluded.sealed_refresh,
		expires_at = excluded.expires_at, refresh_at = excluded.refresh_at, health = excluded.health, health_reason = excluded.health_reason,
		checked_at = excluded.checked_at, check_at = excluded.check_at, grantor = excluded.grantor`,
		r.id, r.workspaceID, r.channel, r.externalID, r.name, r.status, r.appID, string(settings), r.sealed, r.authorisedAt, r.createdAt, r.updatedAt,
		r.statusReason, granted, r.refresh, r.expiresAt, r.refreshAt, r.health, r.healthReason, r.checkedAt, r.checkAt, r.grantor)
	if err != nil {
		return err
	}
	return mark(ctx, tx, connectionEntry(r.id))
}

// connection is the object of the API. Its credentials are never among what is given back.
type connection struct {
	ID         string `json:"id"`
	Channel    string `json:"channel"`
	Name       string `json:"name"`
	ExternalID string `json:"external_id"`
	Status     string `json:"status"`
	// StatusReason is why the status is not active.
	StatusReason *reason           `json:"status_reason,omitempty"`
	Health       health            `json:"health"`
	AppID        string            `json:"app_id,omitempty"`
	Settings     map[string]string `json:"settings"`
	WebhookURL   string            `json:"webhook_url,omitempty"`
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`

	again bool
}

// StatusCode is 201 for a new connection and 200 for one that was there.
func (c connection) StatusCode() int {
	if c.again {
		return http.StatusOK
	}
	return http.StatusCreated
}

func (s *service) object(r connectionRow, again bool) connection {
	c := connection{
		ID: r.id, Channel: r.channel, Name: r.name, ExternalID: r.externalID, Status: r.status, AppID: r.appID,
		StatusReason: reasonOf(r.statusReason), Health: health{Status: r.health, CheckedAt: optional(r.checkedAt), Reason: reasonOf(r.healthReason)},
		Settings: r.settings, CreatedAt: instant(r.createdAt), UpdatedAt: instant(r.updatedAt), again: again,
	}
	if features, _ := channel.Lookup(r.channel); features.Ref == "connection" {
		c.WebhookURL = s.webhook(r.channel, r.id)
	}
	return c
}

type listConnections struct {
	endpointx.Paging
	Channel string `query:"channel" json:"-"`
	Status  string `query:"status" json:"-"`
}

func (s *service) listConnections(ctx context.Context, req listConnections) (page endpointx.Page[connection], err error) {
	at, id, err := position(req.Paging)
	if err != nil {
		return page, err
	}
	var items []connection
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		items = nil
		return sqldb.Query(ctx, tx, `SELECT `+connectionColumns+` FROM connections WHERE workspace_id = $1 AND (created_at, id) > ($2, $3)
			AND (CAST($4 AS TEXT) = '' OR channel = $4) AND (CAST($5 AS TEXT) = '' OR status = $5) ORDER BY created_at, id LIMIT $6`,
			[]any{workspaceOf(ctx), at, id, req.Channel, req.Status, req.Size() + 1}, func(rows sqldb.Row) error {
				var r connectionRow
				err := r.scan(rows.Scan)
				items = append(items, s.object(r, true))
				return err
			})
	})
	return pageOf(items, req.Paging, func(c connection) (time.Time, string) { return c.CreatedAt, c.ID }), err
}

func (s *service) getConnection(ctx context.Context, req byID) (c connection, err error) {
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		r, err := readConnection(ctx, tx, req.ID)
		c = s.object(r, true)
		return err
	})
	return c, err
}

type connectAccount struct {
	Channel     string            `json:"channel"`
	ExternalID  string            `json:"external_id"`
	Name        string            `json:"name"`
	AppID       string            `json:"app_id"`
	Settings    map[string]string `json:"settings"`
	Credentials map[string]string `json:"credentials"`
	// Check: nil or true asks the provider at once whether the credentials work.
	Check *bool `json:"check"`
}

func (r *connectAccount) Validate() error {
	faults := faults{}
	features, ok := channel.Lookup(r.Channel)
	if !ok {
		faults.add("channel", "is not a channel there is")
	} else {
		validateCredentials(faults, features.For(r.Settings), r.Credentials)
		validateSettings(faults, features.For(r.Settings), r.Settings)
		switch {
		case features.Ref == "app" && r.AppID == "":
			faults.add("app_id", "is required")
		case features.Ref != "app" && r.AppID != "":
			faults.add("app_id", "is not for this channel: it has no apps")
		}
	}
	faults.name("external_id", &r.ExternalID)
	r.Name = strings.TrimSpace(r.Name)
	faults.text("name", r.Name, 200)
	if fault := features.AccountFault(r.ExternalID); ok && r.ExternalID != "" && fault != "" {
		faults.add("external_id", fault)
	}
	return faults.problem()
}

// validateCredentials asks for all that the channel needs, and for nothing that it does not know.
func validateCredentials(f faults, features channel.Features, credentials map[string]string) {
	for _, name := range features.Credentials {
		if credentials[name] == "" {
			f.add("credentials/"+name, "is required")
		}
	}
	for name, value := range credentials {
		if fault := features.CredentialFault(name, value); fault != "" {
			f.add("credentials/"+name, fault)
		}
		f.text("credentials/"+name, strings.NewReplacer("\r", "", "\n", "").Replace(value), 8192) // a key in PEM has lines
		if !slices.Contains(slices.Concat(features.Credentials, features.Optional, features.SignedWith), name) {
			f.add("credentials/"+name, "is not known")
		}
	}
}

// validateSettings takes those alone that the channel knows.
func validateSettings(f faults, features channel.Features, settings map[string]string) {
	for _, name := range features.RequiredSettings {
		if settings != nil && settings[name] == "" {
			f.add("settings/"+name, "is required")
		}
	}
	for name, value := range settings {
		f.text("settings/"+name, value, 1600)
		if fault := features.SettingFault(name, value); fault != "" {
			f.add("settings/"+name, fault)
		}
	}
}

// sameCredentials tells whether connections with these settings need the same: providers of a channel differ.
func sameCredentials(name string, a, b map[string]string) bool {
	features, _ := channel.Lookup(name)
	return slices.Equal(features.For(a).Credentials, features.For(b).Credentials)
}

// connectAccount makes the account's connection or, where the workspace has had it, gives that back with new
// credentials, active again. An account that another workspace has is a 409. Credentials that the provider surely does
// not take are a 422; a provider that can't be asked keeps nobody from connecting: it is asked again later.
func (s *service) connectAccount(ctx context.Context, req connectAccount) (c connection, err error) {
	var app provider.App
	if req.AppID != "" {
		if app, err = s.openApp(ctx, req.Channel, req.AppID); err != nil {
			return c, err
		}
	}
	a := provider.Account{ExternalID: req.ExternalID, Name: req.Name, Settings: req.Settings, Credentials: req.Credentials}
	n, err := s.sealAccount(ctx, req.Channel, a)
	if err != nil {
		return c, err
	}
	n.appID, n.keepName, n.check = req.AppID, req.Name == "", req.Check == nil || *req.Check
	if n.check {
		if n.health, n.healthReason, err = s.try(ctx, req.Channel, app, a); err != nil {
			return c, err
		}
	}
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var again bool
		id, replayed, err := s.idem.Do(ctx, tx, func() (string, error) {
			if err := appFor(ctx, tx, req.Channel, req.AppID); err != nil {
				return "", err
			}
			r, had, err := s.upsert(ctx, tx, n)
			again = had
			return r.id, err
		})
		if err != nil {
			return err
		}
		r, err := readConnection(ctx, tx, id)
		c = s.object(r, again || replayed)
		return err
	})
	if sqldb.IsUnique(err) {
		return c, endpointx.Conflict("this account is connected in another workspace")
	}
	if err != nil {
		return connection{}, err
	}
	s.relay.flush(ctx)
	return c, nil
}

type changeConnection struct {
	ID          string            `path:"id" json:"-"`
	Name        *string           `json:"name"`
	Settings    map[string]string `json:"settings"`
	Credentials map[string]string `json:"credentials"`
	// Check as in connectAccount.
	Check *bool `json:"check"`
}

func (r *changeConnection) Validate() error {
	faults := faults{}
	if r.Name != nil {
		faults.name("name", r.Name)
	}
	return faults.problem()
}

// changeConnection changes what is given; settings and credentials are given all together. New credentials
// make the connection active again, but not one that was disconnected: that is connected anew.
func (s *service) changeConnection(ctx context.Context, req changeConnection) (c connection, err error) {
	var fresh newAccount
	if req.Credentials != nil || req.Settings != nil {
		var r connectionRow
		if err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) { r, err = readConnection(ctx, tx, req.ID); return err }); err != nil {
			return c, err
		}
		faults := faults{}
		features, _ := channel.Lookup(r.channel)
		if req.Credentials != nil {
			settings := r.settings
			if req.Settings != nil {
				settings = req.Settings
			}
			validateCredentials(faults, features.For(settings), req.Credentials)
		}
		if req.Settings != nil && req.Credentials == nil && !sameCredentials(r.channel, req.Settings, r.settings) {
			faults.add("credentials", "are required where the provider changes")
		}
		validateSettings(faults, features.For(req.Settings), req.Settings)
		if err := faults.problem(); err != nil {
			return c, err
		}
		if req.Credentials != nil {
			if fresh, err = s.tryNew(ctx, r, req); err != nil {
				return c, err
			}
		}
	}
	now := s.now()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockConnection(ctx, tx, req.ID)
		if err != nil {
			return err
		}
		if req.Name != nil {
			r.name = *req.Name
		}
		if req.Settings != nil {
			r.settings = req.Settings
		}
		if fresh.sealed != nil {
			if r.status == disabled {
				return endpointx.Conflict("this connection was disconnected: connect the account again")
			}
			s.renew(&r, fresh, now)
		}
		r.updatedAt = now.UnixMicro()
		c = s.object(r, true)
		return r.write(ctx, tx)
	})
	if err != nil {
		return connection{}, err
	}
	s.relay.flush(ctx)
	return c, nil
}

// tryNew asks the provider about the credentials that a connection is to be given.
func (s *service) tryNew(ctx context.Context, r connectionRow, req changeConnection) (n newAccount, err error) {
	a := provider.Account{ExternalID: r.externalID, Name: r.name, Settings: r.settings, Credentials: req.Credentials}
	if req.Settings != nil {
		a.Settings = req.Settings
	}
	if n, err = s.sealAccount(ctx, r.channel, a); err != nil || req.Check != nil && !*req.Check {
		return n, err
	}
	var app provider.App
	if r.appID != "" {
		if app, err = s.openApp(ctx, r.channel, r.appID); err != nil {
			return n, err
		}
	}
	n.health, n.healthReason, err = s.try(ctx, r.channel, app, a)
	return n, err
}

// disconnect drops the credentials and leaves the connection as disabled: what was accepted for it still
// finds it. What an account's owner had granted is taken back at the provider, now or as soon as it answers. It is
// repeatable.
func (s *service) disconnect(ctx context.Context, req byID) (none struct{}, err error) {
	var w *withdrawal
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		w = nil
		r, err := lockConnection(ctx, tx, req.ID)
		if err != nil || (r.status == disabled && r.sealed == nil) {
			return err
		}
		if w, err = s.withdraw(ctx, tx, r); err != nil {
			return err
		}
		r.drop(disabled, "", s.now())
		return r.write(ctx, tx)
	})
	if err != nil {
		return none, err
	}
	s.relay.flush(ctx)
	if w != nil {
		s.takeBackAtOnce(ctx, *w)
	}
	return none, nil
}

func readConnection(ctx context.Context, tx *sqldb.Tx, id string) (r connectionRow, err error) {
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections WHERE id = $1 AND workspace_id = $2`,
		id, workspaceOf(ctx)).Scan)
	if noRows(err) {
		err = endpointx.NotFound("connection")
	}
	return r, err
}

// lockConnection is readConnection for who is about to write it: a change that is under way ends first.
func lockConnection(ctx context.Context, tx *sqldb.Tx, id string) (connectionRow, error) {
	if _, err := tx.ExecContext(ctx, `UPDATE connections SET updated_at = updated_at WHERE id = $1 AND workspace_id = $2`, id, workspaceOf(ctx)); err != nil {
		return connectionRow{}, err
	}
	return readConnection(ctx, tx, id)
}

// readConnectionRecord is a connection as the other services are told.
func readConnectionRecord(ctx context.Context, tx *sqldb.Tx, id string) (*pb.Connection, error) {
	var r connectionRow
	err := r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections WHERE id = $1`, id).Scan)
	if err != nil {
		return nil, err
	}
	return &pb.Connection{
		Id: r.id, WorkspaceId: r.workspaceID, Channel: r.channel, Name: r.name, ExternalId: r.externalID, Status: statusOf(r.status),
		AppId: r.appID, Settings: r.settings, SealedCredentials: r.sealed, CreatedAtUs: r.createdAt, UpdatedAtUs: r.updatedAt, Grantor: r.grantor,
	}, nil
}

func statusOf(status string) pb.ConnectionStatus {
	switch status {
	case active:
		return pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
	case reauthorise:
		return pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE
	case revoked:
		return pb.ConnectionStatus_CONNECTION_STATUS_REVOKED
	}
	return pb.ConnectionStatus_CONNECTION_STATUS_DISABLED
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
