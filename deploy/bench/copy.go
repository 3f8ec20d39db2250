package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// projected are the tables that projecting messages fills, in the order in which it writes them.
var projected = []string{"subjects", "seen_events", "contacts", "identities", "conversations", "external_refs", "messages", "outbox"}

// copied is what a drained database holds of a table, or the first of it, in the order in which it was written.
type copied struct {
	table   string
	columns []string
	rows    [][]any
}

// readBack reads the first part of every table that projecting fills.
func readBack(ctx context.Context, url string, part float64) ([]copied, error) {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer db.Close(context.WithoutCancel(ctx))
	tables := make([]copied, len(projected))
	for i, name := range projected {
		t := &tables[i]
		t.table = name
		var columns string // all but those that PostgreSQL makes of the others
		if err := db.QueryRow(ctx, `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, name).Scan(&columns); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows, err := db.Query(ctx, fmt.Sprintf("SELECT %s FROM %s ORDER BY ctid LIMIT (SELECT ceil(count(*) * %f) FROM %[2]s)", columns, name, part))
		if err != nil {
			return nil, err
		}
		for _, f := range rows.FieldDescriptions() {
			t.columns = append(t.columns, f.Name)
		}
		for rows.Next() {
			row, err := rows.Values()
			if err != nil {
				return nil, err
			}
			t.rows = append(t.rows, row)
		}
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return tables, nil
}

// copyIn copies the rows that some events became into a database without any, with pgx's CopyFrom: of each table
// its share of a transaction's events, over as many connections as given, until all are copied or the window ends.
// It gives events a second.
func copyIn(ctx context.Context, url string, tables []copied, events, perTransaction, connections int, window time.Duration) (float64, error) {
	// Millions of rows live in memory: looking at them is no part of what is measured.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	transactions := max(1, events/perTransaction)
	var next, done atomic.Int64
	errs := make([]error, connections)
	var open, running sync.WaitGroup
	open.Add(connections)
	begin := make(chan time.Time)
	for i := range connections {
		running.Go(func() {
			db, err := pgx.Connect(ctx, url)
			open.Done()
			if err != nil {
				errs[i] = err
				return
			}
			defer db.Close(context.WithoutCancel(ctx))
			for until := <-begin; time.Now().Before(until) && errs[i] == nil; {
				n := int(next.Add(1)) - 1
				if n >= transactions { // all are copied
					return
				}
				errs[i] = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
					for _, t := range tables {
						share := t.rows[len(t.rows)*n/transactions : len(t.rows)*(n+1)/transactions]
						if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.table}, t.columns, pgx.CopyFromRows(share)); err != nil {
							return fmt.Errorf("%s: %w", t.table, err)
						}
					}
					return nil
				})
				done.Add(int64(perTransaction))
			}
		})
	}
	open.Wait()
	began := time.Now()
	for range connections {
		select {
		case begin <- began.Add(window):
		case <-ctx.Done():
		case <-time.After(5 * time.Second): // it could not connect
		}
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(done.Load()) / time.Since(began).Seconds(), nil
}
