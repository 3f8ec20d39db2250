package sqldb

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
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

// IsStoreFault tells faults of the store, which pass without anybody changing the request: a full disk, an
// I/O error, locks that others hold, a connection that is lost or not made, a server that restarts or has no
// room. A deadline that has passed is the caller's own and none of them.
func IsStoreFault(err error) bool {
	if code, ok := sqlState(err); ok {
		switch code[:min(2, len(code))] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system error
			return true
		}
		// Lock not available; a primary that became a standby; a transaction that stood still, as its process did.
		return code == "55P03" || code == "25006" || code == "25P03" || lostRace(err)
	}
	switch primary(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return true
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return lostRace(err) || errors.Is(err, errNoConnection) || errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err)
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
