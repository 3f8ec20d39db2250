package connect

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// refreshes buy new credentials at half the lifetime of those that end, and publish them. A provider that is away has
// the other half of that to come back.
type refreshes struct {
	s    *service
	done metric.Int64Counter
}

const (
	//bound:timeout buying new credentials of a provider | {} | tried again within minutes, while the old ones last
	refreshWithin = 10 * time.Second
	//bound:retry buying new credentials that a provider did not refuse for good | every {}, while the old ones last | its health is failing
	refreshAgain = time.Minute
	// keepWithin is for storing what was bought: the provider may have ended what it was bought with.
	//bound:timeout storing credentials that a provider gave anew | {} | the connection may have to be authorised again
	keepWithin = 10 * time.Second
)

func newRefreshes(s *service, meter metric.Meter) (*refreshes, error) {
	done, err := meter.Int64Counter("tributary_token_refreshes_total",
		metric.WithDescription("Credentials that were about to end and for which a provider was asked for new ones, by what came of it."))
	return &refreshes{s, done}, err
}

func (f *refreshes) run(ctx context.Context) error {
	return f.s.each(ctx, "refresh_at", "status IN ('"+active+"', '"+reauthorise+"')", f.refresh)
}

func (f *refreshes) refresh(ctx context.Context, d due) error {
	if ctx.Err() != nil {
		return ctx.Err() // the process stops: the lease runs out
	}
	// A call that is cut off may have ended the old credentials, and what the provider gave must be kept, even where the
	// process is about to stop.
	ctx = context.WithoutCancel(ctx)
	fresh, err := f.buy(ctx, d.connectionRow)
	//bound:exempt keepWithin says it
	ctx, cancel := context.WithTimeout(ctx, keepWithin)
	defer cancel()
	outcome := "refreshed"
	switch {
	case err == nil:
		err = f.keep(ctx, d, fresh)
	case provider.Void(err):
		outcome = reauthorise
		err = f.giveUp(ctx, d, provider.Reason(err))
	default:
		outcome = failing
		err = f.postpone(ctx, d, provider.Reason(err))
	}
	if err != nil {
		return err
	}
	f.done.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", d.channel), attribute.String("outcome", outcome)))
	f.s.relay.flush(ctx)
	return nil
}

func (f *refreshes) buy(ctx context.Context, r connectionRow) (provider.Account, error) {
	refresher, ok := f.s.providers.Of(r.channel, r.settings).(provider.Refresher)
	if !ok {
		return provider.Account{}, &provider.Fault{Code: "not_refreshable"}
	}
	app, account, err := f.s.openAccount(ctx, r)
	if err != nil {
		return provider.Account{}, &provider.Fault{Code: "keeper"}
	}
	//bound:exempt refreshWithin says it
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	return refresher.Refresh(ctx, app, account)
}

// keep stores new credentials, tried again for as long as ctx lasts. Where the account was disconnected, or connected
// anew, meanwhile, they are taken back instead.
func (f *refreshes) keep(ctx context.Context, d due, fresh provider.Account) error {
	n, err := f.s.sealAccount(ctx, d.channel, fresh)
	for err != nil && sleep(ctx, time.Second) {
		n, err = f.s.sealAccount(ctx, d.channel, fresh)
	}
	if err != nil {
		return err
	}
	n.granted, n.grantor, n.health = d.granted, d.grantor, healthy
	store := func() error {
		return f.s.db.Tx(ctx, func(tx *sqldb.Tx) error {
			r, err := lockDue(ctx, tx, d.id)
			if err != nil {
				return skip(err)
			}
			now := f.s.now()
			if r.refreshAt != d.leased {
				superseded := d.connectionRow
				superseded.sealed, superseded.refresh = n.sealed, n.refresh
				return f.s.withdrawSuperseded(ctx, tx, r, superseded)
			}
			f.s.renew(&r, n, now)
			return r.write(ctx, tx)
		})
	}
	err = store()
	for err != nil && sleep(ctx, time.Second) {
		err = store()
	}
	return err
}

// giveUp: only the account's owner can give new credentials.
func (f *refreshes) giveUp(ctx context.Context, d due, why string) error {
	f.s.log.InfoContext(ctx, "connection's credentials are void", "connection_id", d.id, "reason", why, "outcome", reauthorise)
	return f.s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockDue(ctx, tx, d.id)
		if err != nil || r.refreshAt != d.leased {
			return skip(err)
		}
		now := f.s.now()
		r.refreshAt, r.refresh = 0, nil
		r.void(why, now)
		return r.write(ctx, tx)
	})
}

func (f *refreshes) postpone(ctx context.Context, d due, why string) error {
	return f.s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockDue(ctx, tx, d.id)
		if err != nil || r.refreshAt != d.leased {
			return skip(err)
		}
		now := f.s.now()
		r.refreshAt = now.Add(refreshAgain).UnixMicro()
		r.health, r.healthReason, r.checkedAt = failing, why, now.UnixMicro()
		return r.writeHealth(ctx, tx)
	})
}

// sleep is false once ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	//bound:retry sealing and storing credentials that a provider gave anew | every second, within {keepWithin} | see there
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
