package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// What is stored before the windows of large: so many messages, or so many.
const (
	smallStored = 100_000
	largeStored = 10_000_000
	// Seeding goes on so many messages at a time.
	seedStep = 500_000
)

// seed is what makes them: what comes before, and statements that each make some.
//
//go:embed seed.sql
var seed string

// large compares how the conversation service drains beside many stored messages with how it does beside few. No
// checkpoint falls into a window. A window is three times as long as others.
func large(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.filled(ctx)
	if err != nil {
		return nil, err
	}
	few, err := f.rateBeside(ctx, e.size(smallStored))
	if err != nil {
		return nil, fmt.Errorf("few messages: %w", err)
	}
	many, err := f.rateBeside(ctx, e.size(largeStored))
	if err != nil {
		return nil, fmt.Errorf("many messages: %w", err)
	}
	return []figure{
		figure{Name: "large_ratio", Value: many / few, Unit: "ratio"}.atLeast(.8),
		{Name: "large_per_second", Value: many, Unit: "events/s"},
		{Name: "small_per_second", Value: few, Unit: "events/s"},
	}, f.drop(ctx, "large")
}

// rateBeside drains the topic from its beginning on a database that knows all of its people and holds as many
// messages of theirs, all older.
func (f *filled) rateBeside(ctx context.Context, stored int) (float64, error) {
	drained, err := f.drained(ctx)
	if err != nil {
		return 0, err
	}
	if err := f.make(ctx, "large", drained); err != nil {
		return 0, err
	}
	if err := f.seed(ctx, f.database("large"), stored); err != nil {
		return 0, fmt.Errorf("seed: %w", err)
	}
	if err := f.admin(ctx, "CHECKPOINT"); err != nil {
		return 0, err
	}
	const checkpoints = "SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter"
	before, err := query[int64](ctx, f.postgres, checkpoints)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := f.serveAnew(ctx, f.database("large")); err != nil {
		return 0, err
	}
	rate, err := f.rate(ctx, began, max(1, f.events/50), 3*f.window, fmt.Sprintf("large-%d", stored))
	if err != nil {
		return 0, err
	}
	after, err := query[int64](ctx, f.postgres, checkpoints)
	if err == nil && after != before {
		err = fmt.Errorf("%d checkpoints fell into the window", after-before)
	}
	if err != nil {
		return 0, err
	}
	f.say("   beside %d messages: %.0f events/s", stored, rate)
	return rate, f.StopProcess(ctx, "conversation")
}

// seed makes as many messages in place of those that are there, some of the tables side by side, and lets the
// database learn what it holds.
func (f *filled) seed(ctx context.Context, database string, stored int) error {
	began := time.Now()
	before, steps, found := strings.Cut(seed, "\n-- In steps:\n")
	if !found {
		return errors.New("its text has no steps")
	}
	if err := execute(ctx, database, before); err != nil {
		return err
	}
	statements := strings.Split(steps, "\n;\n")
	errs := make([]error, len(statements))
	var running sync.WaitGroup
	for i, statement := range statements {
		running.Go(func() {
			for from := 0; from < stored && errs[i] == nil; from += seedStep {
				errs[i] = execute(ctx, database, statement, min(seedStep, stored-from), from, stored)
			}
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	const index = `DO $$ DECLARE make text; BEGIN
		SET LOCAL maintenance_work_mem = '512MB';
		FOR make IN SELECT i.make FROM indexes i LOOP EXECUTE make; END LOOP;
	END $$`
	for _, statement := range []string{index, "DROP TABLE seeds, told, indexes; DROP FUNCTION seed_id", "VACUUM ANALYZE"} {
		if err := execute(ctx, database, statement); err != nil {
			return err
		}
	}
	f.say("   %d messages are seeded, %.0f s", stored, time.Since(began).Seconds())
	return nil
}

// execute runs a statement, or, without arguments, several.
func execute(ctx context.Context, database, statement string, args ...any) error {
	db, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer db.Close(context.WithoutCancel(ctx))
	_, err = db.Exec(ctx, statement, args...)
	return err
}
