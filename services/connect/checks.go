package connect

import (
	"context"

	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// Health of a connection.
const (
	healthy = "ok"
	failing = "failing"
	unknown = "unknown" // nobody was asked, or nobody could tell
)

// health is what a provider said when it was last asked.
type health struct {
	Status    string     `json:"status"`
	CheckedAt *time.Time `json:"checked_at,omitempty"`
	Reason    *reason    `json:"reason,omitempty"`
}

const (
	// tryWithin bounds asking a provider about credentials while somebody waits.
	//bound:timeout asking a provider about credentials that were pasted | {} | connected all the same, its health unknown; asked again within minutes
	tryWithin = 5 * time.Second
	// checkWithin bounds asking a provider on schedule.
	//bound:timeout asking a provider about a connection, on schedule | {} | its health is failing; asked again within minutes
	checkWithin = 10 * time.Second
	// checkSoon is when a connection is asked after again that is not well.
	checkSoon = 5 * time.Minute
	// lease is for how long a connection is another replica's.
	lease = 2 * time.Minute
	// lookEvery is how often the database is looked through for what is due.
	lookEvery = 5 * time.Second
	//bound:queue connections that one look finds due | {} | the others are found next
	dueBatch = 64
	//bound:limit calls to providers by the jobs of connect, each | {} | the others wait
	atOnce = 8
)

// try asks the provider about credentials that somebody has just given. What it surely refuses is a 422 that names the
// field.
func (s *service) try(ctx context.Context, channel string, app provider.App, a provider.Account) (status, why string, err error) {
	checker, ok := s.providers.Of(channel, a.Settings).(provider.Checker)
	if !ok {
		return unknown, "", nil
	}
	//bound:exempt tryWithin says it
	within, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	err = checker.Check(within, app, a)
	switch {
	case err == nil:
		return healthy, "", nil
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case provider.Wrong(err) != "":
		return "", "", endpointx.Invalid(map[string]string{provider.Wrong(err): sentence(provider.Reason(err))})
	}
	return unknown, provider.Reason(err), nil
}

// nextCheck spreads the checks, so that many accounts that were connected at once are not asked after at once.
func (s *service) nextCheck(now time.Time, health string) int64 {
	every := s.checkEvery
	if health != healthy {
		every = min(every, checkSoon)
	}
	return now.Add(time.Duration(float64(every) * (0.8 + 0.4*rand.Float64()))).UnixMicro() //nolint:gosec // nobody gains by guessing it
}

// checks ask providers, on schedule, how the connections are.
type checks struct {
	s    *service
	done metric.Int64Counter
}

func newChecks(s *service, meter metric.Meter) (*checks, error) {
	done, err := meter.Int64Counter("tributary_connection_checks_total",
		metric.WithDescription("Connections whose provider was asked whether it takes the credentials, by what it said."))
	return &checks{s, done}, err
}

func (c *checks) run(ctx context.Context) error {
	return c.s.each(ctx, "check_at", "status = '"+active+"'", c.check)
}

// due lets many replicas work on the same rows: column is when a row is due, and whoever takes a row moves that on
// first. Work that outlasts the lease finds its row taken, and changes nothing.
type due struct {
	connectionRow
	leased int64
}

// each works on the connections that are due, for as long as ctx lasts.
func (s *service) each(ctx context.Context, column, where string, work func(ctx context.Context, d due) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		n, err := s.workOff(ctx, column, where, work)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if n == dueBatch {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *service) workOff(ctx context.Context, column, where string, work func(ctx context.Context, d due) error) (int, error) {
	batch, err := s.claim(ctx, column, where)
	if err != nil {
		return 0, err
	}
	var g errgroup.Group // one that fails does not end the others: what a provider has given must be kept
	g.SetLimit(atOnce)
	for _, d := range batch {
		//bound:exempt as many as atOnce says
		g.Go(func() error { return work(ctx, d) })
	}
	return len(batch), g.Wait()
}

// claim takes what is due and nobody else has taken.
func (s *service) claim(ctx context.Context, column, where string) (claimed []due, err error) {
	now := s.now()
	var found []connectionRow
	err = s.db.View(ctx, func(tx *sqldb.Tx) error {
		found = nil
		return sqldb.Query(ctx, tx, `SELECT `+connectionColumns+` FROM connections WHERE `+column+` > 0 AND `+column+` <= $1 AND `+where+`
			ORDER BY `+column+`, id LIMIT $2`, []any{now.UnixMicro(), dueBatch}, func(row sqldb.Row) error {
			var r connectionRow
			err := r.scan(row.Scan)
			found = append(found, r)
			return err
		})
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	leased := now.Add(lease).UnixMicro()
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		claimed = nil
		for _, r := range found {
			at := r.checkAt
			if column == "refresh_at" {
				at = r.refreshAt
			}
			taken, err := tx.ExecContext(ctx, `UPDATE connections SET `+column+` = $3 WHERE id = $1 AND `+column+` = $2`, r.id, at, leased)
			if err != nil {
				return err
			}
			n, err := taken.RowsAffected()
			if err != nil {
				return err
			}
			if n == 1 {
				claimed = append(claimed, due{r, leased})
			}
		}
		return nil
	})
	return claimed, err
}

// check asks one connection's provider. Only what it surely calls void changes the status.
func (c *checks) check(ctx context.Context, d due) error {
	outcome, why := healthy, ""
	err := c.ask(ctx, d.connectionRow)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the process stops: the lease runs out
	case err != nil:
		outcome, why = failing, provider.Reason(err)
	}
	// Rotating credentials that have ended are new ones' to replace.
	void := provider.Void(err) && (why != "token_expired" || d.refresh == nil)
	changed := false
	err = c.s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		changed = false
		r, err := lockDue(ctx, tx, d.id)
		if err != nil || r.checkAt != d.leased {
			return skip(err)
		}
		now := c.s.now()
		r.health, r.healthReason, r.checkedAt, r.checkAt = outcome, why, now.UnixMicro(), c.s.nextCheck(now, outcome)
		if !void {
			return r.writeHealth(ctx, tx)
		}
		changed = true
		r.void(why, now)
		return r.write(ctx, tx)
	})
	if err != nil {
		return err
	}
	if void {
		outcome = reauthorise
	}
	c.done.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", d.channel), attribute.String("outcome", outcome)))
	if changed {
		c.s.log.InfoContext(ctx, "connection's credentials are void", "connection_id", d.id, "reason", why, "outcome", reauthorise)
		c.s.relay.flush(ctx)
	}
	return nil
}

func (c *checks) ask(ctx context.Context, r connectionRow) error {
	checker, ok := c.s.providers.Of(r.channel, r.settings).(provider.Checker)
	if !ok {
		return nil
	}
	app, account, err := c.s.openAccount(ctx, r)
	if err != nil {
		return &provider.Fault{Code: "keeper"}
	}
	//bound:exempt checkWithin says it
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	return checker.Check(ctx, app, account)
}

// writeHealth keeps what only the API shows: nothing is published.
func (r *connectionRow) writeHealth(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE connections SET health = $2, health_reason = $3, checked_at = $4, check_at = $5, refresh_at = $6 WHERE id = $1`,
		r.id, r.health, r.healthReason, r.checkedAt, r.checkAt, r.refreshAt)
	return err
}

// lockDue is lockConnection for a job, which works for all workspaces.
func lockDue(ctx context.Context, tx *sqldb.Tx, id string) (r connectionRow, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE connections SET updated_at = updated_at WHERE id = $1`, id); err != nil {
		return r, err
	}
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections WHERE id = $1`, id).Scan)
	return r, err
}

// skip: a row that is another's by now, or gone, is no fault.
func skip(err error) error {
	if noRows(err) {
		return nil
	}
	return err
}
