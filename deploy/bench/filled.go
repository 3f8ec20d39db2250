package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"tributary.dev/deploy/mesh"
)

// What drains and reads are measured with: people who write in no order, and one who writes much.
const (
	drainPeople = 20_000
	drainEvents = 1_000_000
	// What is drained at most, in the longest window (large's, of three) and before it.
	drainedPerSecond = 22_000
	// One message in so many is the talker's.
	talkerShare = 100
)

// filled is a mesh whose topic of inbound events holds messages of Slack's, as ingress made them, and whose
// conversation service can be let loose on a fresh database again and again.
type filled struct {
	*world
	*env
	b      *brokers
	events int
	people int
	made   []string // databases of its own
	served string   // URL of the database that the conversation service is set to
}

// filled gives the one that the measures share, filled on first use.
func (e *env) filled(ctx context.Context) (*filled, error) {
	if e.shared.filled != nil {
		return e.shared.filled, nil
	}
	f := &filled{env: e, b: e.brokers(), people: max(2, e.size(drainPeople))}
	e.shared.filled = f
	var err error
	if f.world, err = e.newWorld(ctx); err != nil {
		return nil, err
	}
	// Only the services that a measure is about run; sms is not in any.
	for _, name := range []string{"conversation", "sms"} {
		if err := f.StopProcess(ctx, name); err != nil {
			return nil, err
		}
	}
	f.served = f.database("conversation")
	if err := f.make(ctx, "empty", f.served); err != nil {
		return nil, err
	}
	return f, f.fill(ctx)
}

// writer gives who writes the nth message: anybody, but for the talker's.
func (f *filled) writer(n int) int {
	if n%talkerShare == 0 {
		return f.people
	}
	h := uint64(n) * 0x9e3779b97f4a7c15 // Fibonacci hashing: every number as often, in no order
	h ^= h >> 32
	return int(h * 0xbf58476d1ce4e5b9 >> 33 % uint64(f.people))
}

func (f *filled) fill(ctx context.Context) error {
	address, err := f.address("slack")
	if err != nil {
		return err
	}
	want, topic := f.size(max(drainEvents, int(3*drainedPerSecond*f.window.Seconds()))), f.Prefix()+"inbound.slack"
	maker := newWebhooks(0, f.writer)
	began := time.Now()
	for f.events < want {
		l, err := hammer(ctx, address, 64, min(10*time.Second, max(f.window, 100*time.Millisecond)), maker.next)
		if err != nil {
			return err
		}
		if l.refused > 0 {
			return fmt.Errorf("%d webhooks were refused", l.refused)
		}
		written, err := f.b.written(ctx, topic)
		if err != nil {
			return err
		}
		f.events = int(written)
	}
	f.say("   %d events of %d people are on the topic, %.0f s", f.events, f.people+1, time.Since(began).Seconds())
	// Slack's own consumer asks for names; nobody needs it any more.
	if err := f.settledOf(ctx, "slack", 10*time.Minute); err != nil {
		return err
	}
	if err := f.StopProcess(ctx, "slack"); err != nil {
		return err
	}
	written, err := f.b.written(ctx, topic)
	f.events = int(written)
	return err
}

// settledOf waits until a process has handled everything.
func (f *filled) settledOf(ctx context.Context, name string, within time.Duration) error {
	p, err := f.Process(name)
	if err != nil {
		return err
	}
	return mesh.Eventually(ctx, within, func() error {
		for range 3 { // lag is measured in passing: it must stay 0
			for _, metric := range []string{"tributary_consumer_lag_records", "tributary_outbox_age_seconds"} {
				if n, err := p.Metric(ctx, metric); err != nil || n > 0 {
					return errors.Join(err, fmt.Errorf("%s of %s is %.0f", metric, name, n))
				}
			}
			time.Sleep(200 * time.Millisecond)
		}
		return nil
	})
}

// database is the URL of one of the mesh's.
func (f *filled) database(name string) string {
	u, err := url.Parse(f.postgres)
	if err != nil {
		return f.postgres // opening it says why
	}
	u.Path = "/" + strings.TrimSuffix(f.Prefix(), ".") + "_" + name
	return u.String()
}

// make makes a database like another, which nobody may be connected to.
func (f *filled) make(ctx context.Context, name, like string) error {
	if err := f.drop(ctx, name); err != nil {
		return err
	}
	f.made = append(f.made, name)
	return f.admin(ctx, "CREATE DATABASE "+nameOf(f.database(name))+" TEMPLATE "+nameOf(like))
}

func (f *filled) drop(ctx context.Context, name string) error {
	return f.admin(ctx, "DROP DATABASE IF EXISTS "+nameOf(f.database(name))+" WITH (FORCE)")
}

// nameOf a database, of its URL.
func nameOf(database string) string {
	path, _, _ := strings.Cut(database, "?")
	return path[strings.LastIndexByte(path, '/')+1:]
}

func (f *filled) admin(ctx context.Context, statement string) error {
	_, err := query[string](ctx, f.postgres, statement)
	return err
}

// query runs a statement, and gives the one value of its one row, if it gives any.
func query[T any](ctx context.Context, database, statement string, args ...any) (value T, err error) {
	db, err := pgx.Connect(ctx, database)
	if err != nil {
		return value, err
	}
	defer db.Close(context.WithoutCancel(ctx))
	rows, err := db.Query(ctx, statement, args...)
	if err != nil {
		return value, err
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return value, err
		}
	}
	rows.Close()
	return value, rows.Err()
}

// serve lets the conversation service begin at the topic's beginning, on a database like another.
func (f *filled) serve(ctx context.Context, name, like string) error {
	if err := f.make(ctx, name, like); err != nil {
		return err
	}
	return f.serveAnew(ctx, f.database(name))
}

// serveAnew lets it begin there on a database.
func (f *filled) serveAnew(ctx context.Context, database string) error {
	group := f.Prefix() + "conversation"
	if err := mesh.Eventually(ctx, 30*time.Second, func() error {
		res, err := f.b.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		if err == nil {
			err = res.Errors[group]
		}
		if errors.Is(err, kafka.GroupIdNotFound) {
			return nil
		}
		return err
	}); err != nil {
		return fmt.Errorf("forget where the group %s stood: %w", group, err)
	}
	return f.serveOn(ctx, database)
}

// serveOn lets the conversation service go on, on a database.
func (f *filled) serveOn(ctx context.Context, database string) error {
	p, err := f.Process("conversation")
	if err != nil {
		return err
	}
	p.Set("TRIBUTARY_DATABASE_URL", database)
	f.served = database
	return p.Start(ctx)
}

// committed is how many events' rows are committed since a time.
func (f *filled) committed(ctx context.Context, since time.Time) (int, error) {
	return query[int](ctx, f.served, "SELECT count(*) FROM seen_events WHERE at_us >= $1", since.UnixMicro())
}

// rate is how many events a second the conversation service commits in a window, once some have been.
func (f *filled) rate(ctx context.Context, since time.Time, warm int, window time.Duration, what string) (float64, error) {
	if err := mesh.Eventually(ctx, 10*time.Minute, func() error {
		n, err := f.committed(ctx, since)
		if err == nil && n < warm {
			err = fmt.Errorf("%d events of %d are committed", n, warm)
		}
		return err
	}); err != nil {
		return 0, err
	}
	var before, after int
	var began, ended time.Time
	if err := f.watched(ctx, what, func() (err error) {
		if before, began, err = f.counted(ctx, since); err != nil {
			return err
		}
		select {
		case <-time.After(window):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, ended, err = f.counted(ctx, since)
		return err
	}); err != nil {
		return 0, err
	}
	left, err := f.left(ctx)
	if err == nil && left == 0 {
		err = errors.New("the topic was drained before the window's end: it must hold more")
	}
	return float64(after-before) / ended.Sub(began).Seconds(), err
}

// watched is do with a CPU profile taken of the conversation service, where profiles are wanted.
func (f *filled) watched(ctx context.Context, what string, do func() error) error {
	if f.profiles == "" {
		return do()
	}
	p, err := f.Process("conversation")
	if err != nil {
		return err
	}
	var taking sync.WaitGroup
	var taken error
	taking.Go(func() { taken = f.profile(ctx, p, what) })
	err = do()
	taking.Wait()
	return errors.Join(err, taken)
}

// counted is committed, with when that was so.
func (f *filled) counted(ctx context.Context, since time.Time) (int, time.Time, error) {
	asked := time.Now()
	n, err := f.committed(ctx, since)
	return n, asked.Add(time.Since(asked) / 2), err
}

// left is how much of the topic the conversation service has not handled.
func (f *filled) left(ctx context.Context) (float64, error) {
	p, err := f.Process("conversation")
	if err != nil {
		return 0, err
	}
	return p.Metric(ctx, "tributary_consumer_lag_records", `topic="inbound.slack"`)
}

// close drops what it has made.
func (f *filled) close() error {
	if f.world == nil {
		return nil
	}
	errs := []error{f.world.close()}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, name := range f.made {
		errs = append(errs, f.drop(ctx, name))
	}
	f.b.close()
	return errors.Join(errs...)
}
