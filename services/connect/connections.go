package connect

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
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
}

const connectionColumns = `id, workspace_id, channel, external_id, name, status, app_id, settings, sealed_credentials, authorised_at, created_at, updated_at`

func (r *connectionRow) scan(scan func(...any) error) error {
	var settings string
	err := scan(&r.id, &r.workspaceID, &r.channel, &r.externalID, &r.name, &r.status, &r.appID, &settings, &r.sealed,
		&r.authorisedAt, &r.createdAt, &r.updatedAt)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(settings), &r.settings)
}

// write keeps a row as it now is, and has it published.
func (r *connectionRow) write(ctx context.Context, tx *sqldb.Tx) error {
	settings, err := json.Marshal(r.settings)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO connections (`+connectionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, status = excluded.status, app_id = excluded.app_id, settings = excluded.settings,
		sealed_credentials = excluded.sealed_credentials, authorised_at = excluded.authorised_at, updated_at = excluded.updated_at`,
		r.id, r.workspaceID, r.channel, r.externalID, r.name, r.status, r.appID, string(settings), r.sealed, r.authorisedAt, r.createdAt, r.updatedAt)
	if err != nil {
		return err
	}
	return mark(ctx, tx, connectionEntry(r.id))
}

// connection is the object of the API. Its credentials are never among what is given back.
type connection struct {
	ID         string            `json:"id"`
	Channel    string            `json:"channel"`
	Name       string            `json:"name"`
	ExternalID string            `json:"external_id"`
	Status     string            `json:"status"`
	AppID      string            `json:"app_id,omitempty"`
	Settings   map[string]string `json:"settings"`
	WebhookURL string            `json:"webhook_url,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`

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
	if r.Name == "" {
		r.Name = r.ExternalID
	}
	faults.name("name", &r.Name)
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
		f.text("credentials/"+name, strings.NewReplacer("\r", "", "\n", "").Replace(value), 8192) // a key in PEM has lines
		if !slices.Contains(slices.Concat(features.Credentials, features.Optional, features.SignedWith), name) {
			f.add("credentials/"+name, "is not known")
		}
	}
}

// validateSettings takes those alone that the channel knows.
func validateSettings(f faults, features channel.Features, settings map[string]string) {
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
// credentials, active again. An account that another workspace has is a 409.
func (s *service) connectAccount(ctx context.Context, req connectAccount) (c connection, err error) {
	sealed, err := s.keepers.seal(ctx, req.Channel, &pb.ConnectionCredentials{Values: req.Credentials})
	if err != nil {
		return c, err
	}
	now := s.now().UnixMicro()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		var again bool
		id, replayed, err := s.idem.Do(ctx, tx, func() (string, error) {
			// Of two that connect the account at once the second finds the first's connection.
			if _, err := tx.ExecContext(ctx, `UPDATE workspaces SET name = name WHERE id = $1`, workspaceOf(ctx)); err != nil {
				return "", err
			}
			if err := appFor(ctx, tx, req); err != nil {
				return "", err
			}
			r := connectionRow{id: newID(), workspaceID: workspaceOf(ctx), channel: req.Channel, externalID: req.ExternalID, createdAt: now}
			err := r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections
				WHERE workspace_id = $1 AND channel = $2 AND external_id = $3`, r.workspaceID, r.channel, r.externalID).Scan)
			if again = err == nil; err != nil && !errors.Is(err, sql.ErrNoRows) {
				return "", err
			}
			r.name, r.appID, r.sealed, r.status = req.Name, req.AppID, sealed, active
			if req.Settings != nil || r.settings == nil || !sameCredentials(req.Channel, req.Settings, r.settings) {
				r.settings = orEmpty(req.Settings)
			}
			r.authorisedAt, r.updatedAt = now, now
			return r.id, r.write(ctx, tx)
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

// appFor checks the app that a connection names, and keeps it from being deleted meanwhile.
func appFor(ctx context.Context, tx *sqldb.Tx, req connectAccount) error {
	if req.AppID == "" {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE apps SET name = name WHERE id = $1`, req.AppID); err != nil {
		return err
	}
	app, err := visibleApp(ctx, tx, req.AppID)
	var notFound *endpointx.Problem
	if errors.As(err, &notFound) || (err == nil && app.channel != req.Channel) {
		return endpointx.Invalid(map[string]string{"app_id": "is not an app of this channel"})
	}
	return err
}

type changeConnection struct {
	ID          string            `path:"id" json:"-"`
	Name        *string           `json:"name"`
	Settings    map[string]string `json:"settings"`
	Credentials map[string]string `json:"credentials"`
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
	var sealed []byte
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
			if sealed, err = s.keepers.seal(ctx, r.channel, &pb.ConnectionCredentials{Values: req.Credentials}); err != nil {
				return c, err
			}
		}
	}
	now := s.now().UnixMicro()
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
		if sealed != nil {
			if r.status == disabled {
				return endpointx.Conflict("this connection was disconnected: connect the account again")
			}
			r.sealed, r.status, r.authorisedAt = sealed, active, now
		}
		r.updatedAt = now
		c = s.object(r, true)
		return r.write(ctx, tx)
	})
	if err != nil {
		return connection{}, err
	}
	s.relay.flush(ctx)
	return c, nil
}

// disconnect drops the credentials and leaves the connection as disabled: what was accepted for it still
// finds it. It is repeatable.
func (s *service) disconnect(ctx context.Context, req byID) (none struct{}, err error) {
	now := s.now().UnixMicro()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockConnection(ctx, tx, req.ID)
		if err != nil || (r.status == disabled && r.sealed == nil) {
			return err
		}
		r.status, r.sealed, r.updatedAt = disabled, nil, now
		return r.write(ctx, tx)
	})
	if err != nil {
		return none, err
	}
	s.relay.flush(ctx)
	return none, nil
}

func readConnection(ctx context.Context, tx *sqldb.Tx, id string) (r connectionRow, err error) {
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections WHERE id = $1 AND workspace_id = $2`,
		id, workspaceOf(ctx)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
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
		AppId: r.appID, Settings: r.settings, SealedCredentials: r.sealed, CreatedAtUs: r.createdAt, UpdatedAtUs: r.updatedAt,
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
