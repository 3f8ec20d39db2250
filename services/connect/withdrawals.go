package connect

import (
	"context"
	"encoding/json"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// withdrawal is a grant to be taken back at its provider. The connection has forgotten it by then: a provider's outage
// keeps nobody from disconnecting. It is dropped when the provider has answered, and after a day in any case.
type withdrawal struct {
	id, connectionID, channel, externalID, appID string
	settings                                     map[string]string
	sealed, refresh                              []byte
	createdAt, tryAt                             int64
}

const withdrawalColumns = `id, connection_id, channel, external_id, app_id, settings, sealed, sealed_refresh, created_at, try_at`

const (
	//bound:timeout taking a grant back at a provider, while somebody disconnects | {} | disconnected all the same; the job goes on
	withdrawWithin = 3 * time.Second
	//bound:retry taking a grant back at a provider | every {}, for {withdrawFor} | forgotten; see there
	withdrawAgain = 5 * time.Minute
	//bound:cache grants to be taken back, sealed, in the database | {} | forgotten: the account's owner can still end it at the provider
	withdrawFor = 24 * time.Hour
)

// withdraw notes that a connection's grant is to be taken back. Nil where there is none: what was pasted is not ours to
// end, it may serve elsewhere.
func (s *service) withdraw(ctx context.Context, tx *sqldb.Tx, r connectionRow) (*withdrawal, error) {
	if _, ok := s.providers.Of(r.channel, r.settings).(provider.Authoriser); !ok || !r.granted || r.sealed == nil {
		return nil, nil
	}
	now := s.now()
	w := &withdrawal{
		id: newID(), connectionID: r.id, channel: r.channel, externalID: r.externalID, appID: r.appID, settings: orEmpty(r.settings),
		sealed: r.sealed, refresh: r.refresh, createdAt: now.UnixMicro(),
		tryAt: now.Add(lease).UnixMicro(), // who notes it tries it first
	}
	settings, err := json.Marshal(w.settings)
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO withdrawals (`+withdrawalColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		w.id, w.connectionID, w.channel, w.externalID, w.appID, string(settings), w.sealed, w.refresh, w.createdAt, w.tryAt)
	return w, err
}

// withdrawSuperseded takes back what a provider gave for an account that was disconnected meanwhile. Where it was
// connected anew instead, taking back could end the new grant too, and nothing is done.
func (s *service) withdrawSuperseded(ctx context.Context, tx *sqldb.Tx, now, superseded connectionRow) error {
	if now.status != disabled {
		return nil
	}
	_, err := s.withdraw(ctx, tx, superseded)
	return err
}

// keepGrant forgets what was to be taken back of an account that is being connected again: providers give the same
// grant again, and taking back the old would end the new.
func keepGrant(ctx context.Context, tx *sqldb.Tx, r connectionRow) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM withdrawals WHERE channel = $1 AND external_id = $2`, r.channel, r.externalID)
	return err
}

// takeBackEver goes on with what the requests that disconnected could not do.
func (s *service) takeBackEver(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.takeBackDue(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// takeBackDue tries what is due, one after the other.
func (s *service) takeBackDue(ctx context.Context) error {
	now := s.now()
	var found []withdrawal
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		found = nil
		return sqldb.Query(ctx, tx, `SELECT `+withdrawalColumns+` FROM withdrawals WHERE try_at <= $1 ORDER BY try_at, id LIMIT $2`,
			[]any{now.UnixMicro(), dueBatch}, func(row sqldb.Row) error {
				var one withdrawal
				err := one.scan(row.Scan)
				found = append(found, one)
				return err
			})
	})
	if err != nil {
		return err
	}
	for _, one := range found {
		if err := s.takeBackAgain(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (o *withdrawal) scan(scan func(...any) error) error {
	var settings string
	if err := scan(&o.id, &o.connectionID, &o.channel, &o.externalID, &o.appID, &settings, &o.sealed, &o.refresh, &o.createdAt, &o.tryAt); err != nil {
		return err
	}
	return json.Unmarshal([]byte(settings), &o.settings)
}

// takeBackAgain tries one that nobody else has taken.
func (s *service) takeBackAgain(ctx context.Context, one withdrawal) error {
	now := s.now()
	claimed := false
	err := s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		taken, err := tx.ExecContext(ctx, `UPDATE withdrawals SET try_at = $3 WHERE id = $1 AND try_at = $2`, one.id, one.tryAt, now.Add(withdrawAgain).UnixMicro())
		if err != nil {
			return err
		}
		n, err := taken.RowsAffected()
		claimed = n == 1
		return err
	})
	if err != nil || !claimed {
		return err
	}
	//bound:exempt checkWithin says it
	within, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	outcome := "done"
	err = s.takeBack(within, one)
	switch {
	case err != nil && now.Sub(instant(one.createdAt)) < withdrawFor:
		outcome = "again"
	case err != nil:
		outcome = "given_up"
		s.log.WarnContext(ctx, "a grant was not taken back", "connection_id", one.connectionID, "reason", provider.Reason(err))
		if err := s.forget(ctx, one); err != nil {
			return err
		}
	}
	s.countWithdrawal(ctx, one, outcome)
	return nil
}

// takeBackAtOnce is the first try, while who disconnects waits; the job goes on with what it could not do.
func (s *service) takeBackAtOnce(ctx context.Context, w withdrawal) {
	//bound:exempt withdrawWithin says it
	ctx, cancel := context.WithTimeout(ctx, withdrawWithin)
	defer cancel()
	outcome := "done"
	if err := s.takeBack(ctx, w); err != nil {
		outcome = "again"
		s.log.InfoContext(ctx, "a grant is still to be taken back", "connection_id", w.connectionID, "reason", provider.Reason(err))
	}
	s.countWithdrawal(ctx, w, outcome)
}

func (s *service) countWithdrawal(ctx context.Context, w withdrawal, outcome string) {
	s.withdrawn.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", w.channel), attribute.String("outcome", outcome)))
}

// takeBack has the provider end a grant, and forgets it.
func (s *service) takeBack(ctx context.Context, w withdrawal) error {
	authoriser, ok := s.providers.Of(w.channel, w.settings).(provider.Authoriser)
	if !ok {
		return s.forget(ctx, w)
	}
	app, a, err := s.openAccount(ctx, connectionRow{
		channel: w.channel, externalID: w.externalID, appID: w.appID, settings: w.settings, sealed: w.sealed, refresh: w.refresh,
	})
	if err != nil {
		return err
	}
	if err := authoriser.Revoke(ctx, app, a); err != nil {
		return err
	}
	return s.forget(context.WithoutCancel(ctx), w)
}

func (s *service) forget(ctx context.Context, w withdrawal) error {
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM withdrawals WHERE id = $1`, w.id)
		return err
	})
}
