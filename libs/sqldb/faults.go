package sqldb

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsDataFault tells faults of the data (constraints, values out of range, invalid text: the same again
// next time) from those of the store (time-outs, deadlocks, lost connections, a full disk), which pass.
func IsDataFault(err error) bool {
	if code, ok := sqlState(err); ok {
		// Class 22: data exception; class 23: integrity constraint violation.
		return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23")
	}
	switch primary(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}

// IsUnique tells a violation of a unique constraint.
func IsUnique(err error) bool {
	if code, ok := sqlState(err); ok {
		return code == "23505"
	}
	var e *sqlite.Error
	return errors.As(err, &e) &&
		(e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// IsForeignKey tells a violation of a foreign key.
func IsForeignKey(err error) bool {
	if code, ok := sqlState(err); ok {
		return code == "23503"
	}
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// lostRace: the transaction may simply be run again.
func lostRace(err error) bool {
	if code, ok := sqlState(err); ok {
		return code == "40001" || code == "40P01"
	}
	switch primary(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true
	}
	return false
}

func sqlState(err error) (string, bool) {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code, true
	}
	return "", false
}

// primary is SQLite's primary result code; 0 for errors that are not SQLite's.
func primary(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}
