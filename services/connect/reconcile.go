package connect

import (
	"bytes"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
)

// reconciler compares the topics with the database and marks what differs: after the topics were lost or
// restored, and after anything that the relay alone could not put right. Entries that the database knows
// nothing of are left alone: a database restored from a backup must not take accounts off the adapters.
type reconciler struct {
	db      *sqldb.DB
	relay   *relay
	every   time.Duration
	tables  map[string]*bus.Table[[]byte]
	differs metric.Int64Counter
}

func newReconciler(db *sqldb.DB, b *bus.Bus, r *relay, every time.Duration, meter metric.Meter) (*reconciler, error) {
	differs, err := meter.Int64Counter("tributary_reconciled_total",
		metric.WithDescription("Entries that a topic had lost, or had otherwise than the database, and that were published again."))
	if err != nil {
		return nil, err
	}
	tables := map[string]*bus.Table[[]byte]{}
	for _, topic := range []string{access.Topic().Name, accounts.AppsTopic, accounts.ConnectionsTopic} {
		tables[topic] = bus.NewTable(b, bus.TableConfig[[]byte]{
			Topic: topic, Decode: func(value []byte) ([]byte, error) { return bytes.Clone(value), nil },
		})
	}
	return &reconciler{db: db, relay: r, every: every, tables: tables, differs: differs}, nil
}

func (r *reconciler) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range r.tables {
		//bound:goroutines Tables that are compared with the database | three | they end together
		g.Go(func() error { return t.Run(ctx) })
	}
	g.Go(func() error { return r.compareEver(ctx) })
	return g.Wait()
}

func (r *reconciler) compareEver(ctx context.Context) error {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		for topic, table := range r.tables {
			if err := table.WaitReady(ctx); err != nil {
				return err
			}
			if err := r.compare(ctx, topic, table); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// compare goes through a topic's records in pages, so that neither memory nor a transaction grows with
// them.
func (r *reconciler) compare(ctx context.Context, topic string, table *bus.Table[[]byte]) error {
	after := ""
	for {
		var keys []string
		var different []entry
		err := r.db.View(ctx, func(tx *sqldb.Tx) (err error) {
			keys, different, err = differing(ctx, tx, topic, after, table)
			return err
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if len(different) > 0 {
			if err := r.markAll(ctx, different); err != nil {
				return err
			}
			r.differs.Add(ctx, int64(len(different)), metric.WithAttributes(attribute.String("topic", topic)))
			if _, err := r.relay.publishMarked(ctx); err != nil {
				return err
			}
		}
		after = keys[len(keys)-1]
	}
}

// differing looks at a page of a topic's keys after one, in order.
func differing(ctx context.Context, tx *sqldb.Tx, topic, after string, table *bus.Table[[]byte]) (keys []string, different []entry, err error) {
	err = sqldb.Query(ctx, tx, keysOf(topic), []any{after, relayBatch}, func(rows sqldb.Row) error {
		var key string
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, key := range keys {
		want, err := current(ctx, tx, entry{topic, key})
		if err != nil {
			return nil, nil, err
		}
		if have, ok := table.Get(key); ok != (want != nil) || !bytes.Equal(have, want) {
			different = append(different, entry{topic, key})
		}
	}
	return keys, different, nil
}

// keysOf lists a topic's keys after $1 that the database has, or had, a record of.
func keysOf(topic string) string {
	switch topic {
	case accounts.AppsTopic:
		return `SELECT DISTINCT channel || '/' || name AS key FROM apps WHERE channel || '/' || name > $1 ORDER BY key LIMIT $2`
	case accounts.ConnectionsTopic:
		return `SELECT id FROM connections WHERE id > $1 ORDER BY id LIMIT $2`
	default:
		return `SELECT id FROM keys WHERE id > $1 ORDER BY id LIMIT $2`
	}
}

func (r *reconciler) markAll(ctx context.Context, entries []entry) error {
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for _, e := range entries {
			if err := mark(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}
