// Package sqldb opens, migrates and transacts on SQLite and PostgreSQL with one SQL text: $n
// parameters, app-made ids, times as UTC microseconds, ON CONFLICT, RETURNING.
package sqldb

import (
	"context"
	"database/sql"
	"io/fs"
)

// SCAFFOLD

// DB is a service's database. On SQLite: one writer (BEGIN IMMEDIATE) and a pool of readers.
type DB struct{}

// Config of a DB.
type Config struct {
	// URL: postgres://… or sqlite:<path>.
	URL string
	// Migrations are goose's, applied at Open under a lock that several replicas may race for.
	Migrations fs.FS
	// MaxConns bounds the pool (PostgreSQL; SQLite's readers).
	MaxConns int
}

// Open opens, waits for nothing, and migrates.
func Open(ctx context.Context, cfg Config) (*DB, error) { panic("scaffold") }

// Close the pool.
func (db *DB) Close() error { panic("scaffold") }

// Dialect is "sqlite" or "postgres"; for tests and messages, never to choose SQL by.
func (db *DB) Dialect() string { panic("scaffold") }

// Tx runs f in a write transaction. Serialisation faults and deadlocks are tried again (f must be
// repeatable); f's error rolls back and is returned as it is.
func (db *DB) Tx(ctx context.Context, f func(tx *sql.Tx) error) error { panic("scaffold") }

// View runs f in a read transaction: one consistent state.
func (db *DB) View(ctx context.Context, f func(tx *sql.Tx) error) error { panic("scaffold") }

// IsDataFault tells faults of the data (constraints, values out of range, invalid text) from those of the
// store (time-outs, deadlocks, lost connections, disk full), which pass.
func IsDataFault(err error) bool { panic("scaffold") }

// IsUnique tells a violation of a unique constraint.
func IsUnique(err error) bool { panic("scaffold") }

// InsertRows runs "INSERT INTO … (columns) VALUES …  suffix" in fixed chunks, so that few statements are
// prepared. rows hold one value per column each; suffix may be an ON CONFLICT clause, and RETURNING with
// scan.
func InsertRows(ctx context.Context, tx *sql.Tx, into string, columns []string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	panic("scaffold")
}

// In expands a list for "IN (…)": placeholders from $start on, and the values as arguments, padded by
// repetition to a fixed size so that few statements are prepared.
func In[T any](start int, values []T) (placeholders string, args []any) { panic("scaffold") }
