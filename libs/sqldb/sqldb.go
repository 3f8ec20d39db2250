// Package sqldb opens, migrates and transacts on SQLite and PostgreSQL with one SQL text: $n
// parameters, app-made ids as text, times as UTC microseconds in BIGINT, ON CONFLICT, RETURNING. There is
// no dialect layer: what the two do not share is not used.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // registers the driver
)

// DB is a service's database. On SQLite it is one file in WAL mode with one writer (BEGIN IMMEDIATE,
// synchronous=FULL) and a pool of readers; on PostgreSQL one pool.
type DB struct {
	write, read *sql.DB
	dialect     goose.Dialect
	within      time.Duration // that a connection must be there
}

// Config of a DB.
type Config struct {
	// URL: postgres://… or sqlite:<path>.
	URL string
	// Migrations are goose's *.sql files, at the root or in a folder "migrations". They are applied at
	// Open, under a lock that several replicas may race for. Those named *.postgres.sql are PostgreSQL's alone: they
	// say how rows are stored.
	Migrations fs.FS
	// MaxConns bounds the pool (PostgreSQL's, SQLite's readers); 0 is 10.
	MaxConns int
	// AnswerTimeout bounds each answer of PostgreSQL, where it says nothing: it is stopped, or cut off. 0 is
	// 40 s, more than it takes over any statement.
	AnswerTimeout time.Duration
}

const (
	defaultConns = 10
	//bound:timeout waiting for a connection | {} | the transaction fails: 503, or it is tried again
	connectionWithin = 30 * time.Second
	//bound:timeout a statement, at PostgreSQL | {} | the transaction fails
	statementTimeout = 30 * time.Second
	//bound:timeout an answer of a PostgreSQL that is stopped or cut off | {} | the transaction fails; of a commit the outcome is unknown
	answerTimeout = statementTimeout + 10*time.Second
	//bound:timeout a lock, at PostgreSQL | {} | the transaction fails: 503, or it is tried again
	lockTimeout = 5 * time.Second
	//bound:timeout a process that stands still in a transaction, at PostgreSQL | {} | it is rolled back
	idleTimeout = 10 * time.Second
	// migrationTimeout is less than the chart's startup probe gives.
	//bound:timeout a statement of a migration, at PostgreSQL | {} | the process does not start, and is started again
	migrationTimeout = 9 * time.Minute
	// None of these runs while PostgreSQL waits for the rest of what was sent together.
	//bound:timeout a process whose host is gone, at PostgreSQL | {} of silence, and as many tries of TCP a second apart | it is rolled back
	silence = 4 * time.Second
)

// serverSettings keep a stopped or slow process from holding the others.
func serverSettings(statementTimeout time.Duration) map[string]string {
	return map[string]string{
		"idle_in_transaction_session_timeout": idleTimeout.String(),
		"lock_timeout":                        lockTimeout.String(),
		"statement_timeout":                   strconv.FormatInt(statementTimeout.Milliseconds(), 10),
		"tcp_keepalives_idle":                 strconv.Itoa(int(silence.Seconds())),
		"tcp_keepalives_count":                strconv.Itoa(int(silence.Seconds())),
		"tcp_keepalives_interval":             "1",
		"timezone":                            "UTC",
	}
}

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = defaultConns
	}
	if cfg.AnswerTimeout <= 0 {
		cfg.AnswerTimeout = answerTimeout
	}
	var db *DB
	var err error
	if path, ok := strings.CutPrefix(cfg.URL, "sqlite:"); ok {
		db, err = openSQLite(path, cfg.MaxConns)
	} else {
		db, err = openPostgres(cfg)
	}
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate: %w", err), db.Close())
	}
	return db, nil
}

func openSQLite(path string, readers int) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// SQLite would make it readable for all; WAL and the rest take the file's mode after it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	dsn := func(more ...string) string {
		q := url.Values{"_pragma": append([]string{
			"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
			"cache_size(-4096)", "secure_delete(1)",
		}, more...)}
		return "file:" + url.PathEscape(path) + "?" + q.Encode()
	}
	//bound:pool connections that write to a SQLite file | one | transactions wait in line
	write, err := sql.Open("sqlite", dsn()+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	//bound:pool connections that read a SQLite file | {defaultConns} | reads wait in line
	read, err := sql.Open("sqlite", dsn("query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(2)
	return &DB{write: write, read: read, dialect: goose.DialectSQLite3, within: connectionWithin}, nil
}

func openPostgres(of Config) (*DB, error) {
	pool, err := postgresPool(of, statementTimeout, of.AnswerTimeout)
	if err != nil {
		return nil, err
	}
	return &DB{write: pool, read: pool, dialect: goose.DialectPostgres, within: connectionWithin}, nil
}

func postgresPool(of Config, statement, answer time.Duration) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(of.URL)
	if err != nil {
		return nil, errors.New("database URL is neither sqlite:<path> nor a PostgreSQL URL") // the cause may quote a password
	}
	if cfg.ConnectTimeout == 0 {
		//bound:timeout connecting to PostgreSQL | {} | the transaction fails
		cfg.ConnectTimeout = 5 * time.Second
	}
	for name, value := range serverSettings(statement) {
		if _, given := cfg.RuntimeParams[name]; !given {
			cfg.RuntimeParams[name] = value
		}
	}
	cfg.Tracer = deadlines{answer}
	//bound:pool connections to PostgreSQL, of a database | {defaultConns} | transactions wait in line
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(of.MaxConns)
	pool.SetMaxIdleConns(of.MaxConns)
	//bound:timeout an idle connection to PostgreSQL | {} | it is closed
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return pool, nil
}

func (db *DB) migrate(ctx context.Context, of Config) error {
	files := of.Migrations
	if files == nil {
		return nil
	}
	if sub, err := fs.Stat(files, "migrations"); err == nil && sub.IsDir() {
		if files, err = fs.Sub(files, "migrations"); err != nil {
			return err
		}
	}
	if db.dialect == goose.DialectPostgres {
		return migratePostgres(ctx, db.write, of, files)
	}
	theirs, err := fs.Glob(files, "*.postgres.sql")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(db.dialect, db.write, files, goose.WithExcludeNames(theirs))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// migratePostgres migrates on connections of its own, if there is anything to: a migration may go through a large table.
func migratePostgres(ctx context.Context, pool *sql.DB, of Config, files fs.FS) error {
	p, err := goose.NewProvider(goose.DialectPostgres, pool, files)
	if err != nil {
		return err
	}
	if pending, err := p.HasPending(ctx); err != nil || !pending {
		return err
	}
	patient, err := postgresPool(of, migrationTimeout, migrationTimeout+of.AnswerTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = patient.Close() }() // its work is done, or the error is told

	const every = 5 // seconds: another replica may be at it
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(every, uint64(migrationTimeout.Seconds()+60)/every))
	if err != nil {
		return err
	}
	if p, err = goose.NewProvider(goose.DialectPostgres, patient, files, goose.WithSessionLocker(locker)); err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the pools; on SQLite it also folds the WAL into the file.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Dialect is "sqlite3" or "postgres": for tests and messages, never to choose SQL by.
func (db *DB) Dialect() string { return string(db.dialect) }

// maxTries bounds how often Tx runs a transaction that lost against another.
//
//bound:retry a transaction that lost against another | {} tries | its error
const maxTries = 10

// Tx runs f in a write transaction and commits when it returns nil. A transaction that lost against
// another (serialisation fault, deadlock, busy) is run again, so f must be repeatable; any other error of
// f rolls back and is returned as it is. An error of the commit itself leaves the outcome unknown.
func (db *DB) Tx(ctx context.Context, f func(tx *Tx) error) error {
	for try := 1; ; try++ {
		err := db.run(ctx, db.write, false, "BEGIN", f)
		if err == nil || try == maxTries || !lostRace(err) {
			return err
		}
		pause := time.Duration(rand.Int64N(int64(min(1<<try, 200)))+1) * time.Millisecond
		select {
		case <-ctx.Done():
			return ctx.Err()
		//bound:exempt a fifth of a second at most
		case <-time.After(pause):
		}
	}
}

// View runs f on one consistent state of the database; f may not write.
func (db *DB) View(ctx context.Context, f func(tx *Tx) error) error {
	return db.run(ctx, db.read, true, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", f)
}

// Read runs f in no transaction, which saves PostgreSQL the ending of one: each of its statements reads the database as
// it then stands. f may not write.
func (db *DB) Read(ctx context.Context, f func(tx *Tx) error) error {
	conn, err := db.connection(ctx, db.read)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	if db.dialect == goose.DialectSQLite3 {
		return f(&Tx{lite: conn})
	}
	return conn.Raw(func(driver any) error {
		return postgres(ctx, driver.(*stdlib.Conn).Conn(), "", f)
	})
}

// run runs f in a transaction. readOnly is for SQLite and begin for PostgreSQL; SQLite's readers see one state always.
func (db *DB) run(ctx context.Context, pool *sql.DB, readOnly bool, begin string, f func(tx *Tx) error) (err error) {
	conn, err := db.connection(ctx, pool)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	if db.dialect == goose.DialectPostgres {
		return conn.Raw(func(driver any) error { return postgres(ctx, driver.(*stdlib.Conn).Conn(), begin, f) })
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // f failed or panicked
			_ = tx.Rollback()
		}
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
			err = ctx.Err() // it was rolled back for that
		}
	}()
	if err := f(&Tx{lite: tx}); err != nil {
		return err
	}
	done = true
	return tx.Commit()
}

var errNoConnection = errors.New("sqldb: no connection in time")

// connection waits for one that works.
func (db *DB) connection(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	//bound:exempt connectionWithin says it
	within, cancel := context.WithTimeout(ctx, db.within)
	defer cancel()
	conn, err := pool.Conn(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil, errNoConnection
	}
	return conn, err
}

// deadlines give each statement one, and those that are sent together one for all.
type deadlines struct{ within time.Duration }

type endDeadline struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (d deadlines) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	//bound:exempt answerTimeout says it
	ctx, cancel := context.WithTimeout(ctx, d.within)
	return context.WithValue(ctx, endDeadline{}, cancel)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (deadlines) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	ctx.Value(endDeadline{}).(context.CancelFunc)()
}

// TraceBatchStart implements pgx.BatchTracer.
func (d deadlines) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return d.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{})
}

// TraceBatchQuery implements pgx.BatchTracer.
func (deadlines) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (d deadlines) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchEndData) {
	d.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{})
}
