package connect

import (
	"context"
	"net/http"
	"time"

	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/connect/provider"
)

// newAccount is an account about to be connected, with its credentials sealed.
type newAccount struct {
	channel, externalID, name, appID string
	// settings: nil keeps those that the connection has; keepName too keeps its name.
	settings        map[string]string
	keepName        bool
	sealed, refresh []byte
	lifetime        time.Duration
	granted, check  bool
	grantor         string
	health          string
	healthReason    string
}

func (s *service) sealAccount(ctx context.Context, channel string, a provider.Account) (n newAccount, err error) {
	n = newAccount{channel: channel, externalID: a.ExternalID, name: a.Name, settings: a.Settings, lifetime: a.Lifetime, grantor: a.Grantor, health: unknown}
	if n.name == "" {
		n.name = a.ExternalID
	}
	if n.sealed, err = s.keepers.seal(ctx, channel, &pb.ConnectionCredentials{Values: a.Credentials}); err != nil || a.Refresh == "" {
		return n, err
	}
	n.refresh, err = s.keepers.seal(ctx, channel, &pb.ConnectionCredentials{Values: map[string]string{"refresh_token": a.Refresh}})
	return n, err
}

// upsert gives an account's connection its new credentials, and makes it active. had: the workspace had it.
func (s *service) upsert(ctx context.Context, tx *sqldb.Tx, n newAccount) (r connectionRow, had bool, err error) {
	now := s.now()
	// Of two that connect the account at once the second finds the first's connection.
	if _, err := tx.ExecContext(ctx, `UPDATE workspaces SET name = name WHERE id = $1`, workspaceOf(ctx)); err != nil {
		return r, false, err
	}
	r = connectionRow{id: newID(), workspaceID: workspaceOf(ctx), channel: n.channel, externalID: n.externalID, createdAt: now.UnixMicro()}
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections
		WHERE workspace_id = $1 AND channel = $2 AND external_id = $3`, r.workspaceID, r.channel, r.externalID).Scan)
	if had = err == nil; !had && !noRows(err) {
		return r, false, err
	}
	if !had || !n.keepName {
		r.name = n.name
	}
	if n.settings != nil || r.settings == nil || !sameCredentials(n.channel, n.settings, r.settings) {
		r.settings = orEmpty(n.settings)
	}
	r.appID = n.appID
	s.renew(&r, n, now)
	if err := keepGrant(ctx, tx, r); err != nil {
		return r, had, err
	}
	return r, had, r.write(ctx, tx)
}

// renew gives a row credentials, and makes it active.
func (s *service) renew(r *connectionRow, n newAccount, now time.Time) {
	r.status, r.statusReason, r.sealed, r.refresh, r.granted = active, "", n.sealed, n.refresh, n.granted
	r.grantor = n.grantor
	r.authorisedAt, r.updatedAt = now.UnixMicro(), now.UnixMicro()
	r.expiresAt, r.refreshAt = 0, 0
	if n.refresh != nil && n.lifetime > 0 {
		r.expiresAt, r.refreshAt = now.Add(n.lifetime).UnixMicro(), now.Add(n.lifetime/2).UnixMicro()
	}
	r.health, r.healthReason, r.checkedAt = n.health, n.healthReason, 0
	if n.health != unknown || n.healthReason != "" {
		r.checkedAt = now.UnixMicro()
	}
	r.checkAt = 0
	if _, ok := s.providers.Of(r.channel, r.settings).(provider.Checker); ok {
		r.checkAt = s.nextCheck(now, n.health)
	}
}

// appFor checks the app that a connection names, and keeps it from being deleted meanwhile.
func appFor(ctx context.Context, tx *sqldb.Tx, channel, id string) error {
	if id == "" {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE apps SET name = name WHERE id = $1`, id); err != nil {
		return err
	}
	app, err := visibleApp(ctx, tx, id)
	if isProblem(err, http.StatusNotFound) || (err == nil && app.channel != channel) {
		return endpointx.Invalid(map[string]string{"app_id": "is not an app of this channel"})
	}
	return err
}

// drop leaves a row without credentials. Who granted them is known for as long as it is not disconnected: a person who
// takes an app off their account is asked there whether it shall delete their data too, and which comes first nobody
// says.
func (r *connectionRow) drop(status, why string, now time.Time) {
	if status == disabled {
		r.grantor = ""
	}
	r.status, r.statusReason, r.sealed, r.refresh, r.updatedAt = status, why, nil, nil, now.UnixMicro()
	r.expiresAt, r.refreshAt, r.checkAt, r.checkedAt, r.health, r.healthReason = 0, 0, 0, 0, unknown, ""
}

// openAccount opens a connection's credentials and its app's secrets. An app that is gone is empty.
func (s *service) openAccount(ctx context.Context, r connectionRow) (app provider.App, a provider.Account, err error) {
	a = provider.Account{ExternalID: r.externalID, Name: r.name, Settings: r.settings}
	if a.Credentials, err = s.keepers.values(ctx, r.channel, r.sealed); err != nil {
		return app, a, err
	}
	if r.refresh != nil {
		values, err := s.keepers.values(ctx, r.channel, r.refresh)
		if err != nil {
			return app, a, err
		}
		a.Refresh = values["refresh_token"]
	}
	app, err = s.appOf(ctx, r.appID)
	return app, a, err
}

func (s *service) appOf(ctx context.Context, id string) (provider.App, error) {
	if id == "" {
		return provider.App{}, nil
	}
	var row appRow
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return row.scan(tx.QueryRowContext(ctx, `SELECT `+appColumns+` FROM apps WHERE id = $1 AND deleted_at = 0`, id).Scan)
	})
	if noRows(err) {
		return provider.App{}, nil
	}
	if err != nil {
		return provider.App{}, err
	}
	return s.opened(ctx, row)
}

// void says of a row that its credentials are, as the provider has just said, and that only their owner can give new ones.
func (r *connectionRow) void(why string, now time.Time) {
	r.status, r.statusReason, r.updatedAt, r.checkAt = reauthorise, why, now.UnixMicro(), 0
	r.health, r.healthReason, r.checkedAt = failing, why, now.UnixMicro()
}
