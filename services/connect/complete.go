package connect

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/connect/provider"
)

// offer keeps several accounts, sealed, until their owner has chosen one.
func (s *service) offer(ctx context.Context, r authorisationRow, accounts []provider.Account) error {
	list, err := json.Marshal(accounts)
	if err != nil {
		return err
	}
	sealed, err := s.keepers.seal(ctx, r.channel, &pb.ConnectionCredentials{Values: map[string]string{"accounts": string(list)}})
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockAuthorisation(ctx, tx, r.id)
		if err != nil || r.status == finished {
			return err
		}
		r.status, r.fault, r.accounts = choosing, "", sealed
		return r.write(ctx, tx)
	})
}

func (s *service) offered(ctx context.Context, r authorisationRow) (accounts []provider.Account, err error) {
	values, err := s.keepers.values(ctx, r.channel, r.accounts)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal([]byte(values["accounts"]), &accounts) != nil {
		return nil, errNotOpened
	}
	return accounts, nil
}

// complete connects the account that an authorisation granted. Done twice, it is done once.
func (s *service) complete(ctx context.Context, r authorisationRow, a provider.Account) error {
	features, _ := channel.Lookup(r.channel)
	wrong := faults{}
	validateCredentials(wrong, features.For(a.Settings), a.Credentials)
	if len(wrong) > 0 || features.AccountFault(a.ExternalID) != "" {
		return &provider.Fault{Code: "no_accounts"}
	}
	if err := s.connectedElsewhere(ctx, r, a); err != nil {
		return err
	}
	authoriser, app, err := s.authoriserOf(ctx, r)
	if err != nil {
		return err
	}
	if err := authoriser.Attach(ctx, app, a); err != nil {
		return err
	}
	c, err := s.sealAccount(ctx, r.channel, a)
	if err != nil {
		return err
	}
	c.appID, c.granted, c.health, c.keepName = r.appID, true, healthy, true
	ctx = as(ctx, r)
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockAuthorisation(ctx, tx, r.id)
		if err != nil || r.status == finished {
			return err
		}
		if err := appFor(ctx, tx, r.channel, r.appID); err != nil {
			return err
		}
		made, _, err := s.upsert(ctx, tx, c)
		if err != nil {
			return err
		}
		r.status, r.fault, r.connectionID, r.accounts, r.state = finished, "", made.id, nil, nil
		return r.write(ctx, tx)
	})
	switch {
	case sqldb.IsUnique(err):
		return &provider.Fault{Code: "connected_elsewhere"}
	case isProblem(err, http.StatusUnprocessableEntity):
		return &provider.Fault{Code: "app_gone"}
	case err != nil:
		return err
	}
	s.count(ctx, r.channel, finished)
	s.relay.flush(ctx)
	return nil
}

// connectedElsewhere comes before Attach: to attach an account of another workspace, and give up then, would leave that
// workspace's events in disorder.
func (s *service) connectedElsewhere(ctx context.Context, r authorisationRow, a provider.Account) error {
	var there bool
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM connections WHERE channel = $1 AND external_id = $2 AND status <> $3 AND workspace_id <> $4)`,
			r.channel, a.ExternalID, disabled, r.workspaceID).Scan(&there)
	})
	if err == nil && there {
		err = &provider.Fault{Code: "connected_elsewhere"}
	}
	return err
}

// failed notes why an authorisation came to nothing. Nil too where that is noted.
func (s *service) failed(ctx context.Context, r authorisationRow, why error) error {
	if why == nil {
		return nil
	}
	code := provider.Reason(why)
	var ours *endpointx.Problem
	if errors.As(why, &ours) {
		code = ours.Code
	}
	s.count(ctx, r.channel, failed)
	s.log.InfoContext(ctx, "an account was not connected", "authorisation_id", r.id, "channel", r.channel, "error_code", code)
	return s.db.Tx(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		r, err := lockAuthorisation(ctx, tx, r.id)
		if err != nil || r.status == finished {
			return err
		}
		r.status, r.fault, r.accounts = failed, code, nil
		return r.write(ctx, tx)
	})
}

func (s *service) count(ctx context.Context, channel, outcome string) {
	s.authorisations.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", channel), attribute.String("outcome", outcome)))
}

func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
