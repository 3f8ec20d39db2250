package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tx is a transaction, for one goroutine. On PostgreSQL it begins with its first statement and commits with its last:
// BEGIN, what is queued and COMMIT take no round trips of their own.
type Tx struct {
	lite  liteTx
	pg    *pgx.Conn
	ended func() error // whether the transaction's own context has, on PostgreSQL
	// queued statements are not sent yet; begun tells whether any was.
	//bound:exempt what follows from one transaction's work
	queued []statement
	begun  bool
}

// liteTx is what is used of SQLite's *sql.Tx, or *sql.Conn.
type liteTx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Row is what a row of an answer is read with.
type Row interface{ Scan(dest ...any) error }

type statement struct {
	text string
	args []any
	// scan is called for each row of the answer.
	scan func(Row) error
	tag  *pgconn.CommandTag
}

// Queue is Query for what the caller can wait for: PostgreSQL gets it with the next statement that is not queued, or
// with the COMMIT, and scan is called then. Only then can it fail there, which fails the transaction; but a scan that is
// called after the COMMIT comes too late to undo anything: where its error is to, Send before. SQLite, which has no round
// trips, runs it at once.
func (tx *Tx) Queue(ctx context.Context, query string, args []any, scan func(Row) error) error {
	if tx.pg == nil {
		return queryLite(ctx, tx.lite, query, args, scan)
	}
	tx.queued = append(tx.queued, statement{text: query, args: args, scan: scan})
	return nil
}

// ForUpdate ends a SELECT whose rows are locked until the transaction ends. SQLite has one writer at a time, and needs
// no more.
func (tx *Tx) ForUpdate() string {
	if tx.pg == nil {
		return ""
	}
	return " FOR UPDATE"
}

// ForUpdateOfFree is ForUpdate that leaves out, and does not wait for, what somebody else has locked.
func (tx *Tx) ForUpdateOfFree() string {
	if tx.pg == nil {
		return ""
	}
	return " FOR UPDATE SKIP LOCKED"
}

// Query runs a query and calls scan, where there is one, for each of its rows.
func Query(ctx context.Context, tx *Tx, query string, args []any, scan func(Row) error) error {
	if err := tx.Queue(ctx, query, args, scan); err != nil {
		return err
	}
	return tx.Send(ctx)
}

// ExecContext runs a statement whose answer has no rows.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if tx.pg == nil {
		query, args = positional(query, args)
		return tx.lite.ExecContext(ctx, query, args...)
	}
	var tag pgconn.CommandTag
	tx.queued = append(tx.queued, statement{text: query, args: args, tag: &tag})
	err := tx.Send(ctx)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// QueryRowContext runs a query when its first row is read. sql.ErrNoRows: there was none.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) Row {
	if tx.pg == nil {
		query, args = positional(query, args)
		return tx.lite.QueryRowContext(ctx, query, args...)
	}
	return firstRow{ctx, tx, query, args}
}

type firstRow struct {
	ctx   context.Context
	tx    *Tx
	query string
	args  []any
}

// Scan implements Row.
func (r firstRow) Scan(dest ...any) error {
	found := false
	err := Query(r.ctx, r.tx, r.query, r.args, func(row Row) error {
		if found {
			return nil
		}
		found = true
		return row.Scan(dest...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

func queryLite(ctx context.Context, tx liteTx, query string, args []any, scan func(Row) error) error {
	query, args = positional(query, args)
	if scan == nil {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // its error is Err's
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// positional writes a statement's parameters $1, $2, … as SQLite's ?, with an argument for each. To SQLite $1 is a name:
// it keeps those in a list, and goes through it from the front for every parameter that it reads, and that is bound.
func positional(query string, args []any) (string, []any) {
	text := make([]byte, 0, len(query))
	values := make([]any, 0, len(args))
	quoted := false
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c == '\'' {
			quoted = !quoted
		}
		n, end := 0, i+1
		for c == '$' && !quoted && end < len(query) && query[end] >= '0' && query[end] <= '9' {
			n = 10*n + int(query[end]-'0')
			end++
		}
		if n == 0 {
			text = append(text, c)
			continue
		}
		if n > len(args) {
			return query, args // SQLite says what is wrong
		}
		text, values = append(text, '?'), append(values, args[n-1])
		i = end - 1
	}
	return string(text), values
}

// Send sends what is queued, and reads the answers up to the first fault: PostgreSQL does nothing behind that.
func (tx *Tx) Send(ctx context.Context) error {
	if len(tx.queued) == 0 {
		return nil
	}
	if err := tx.ended(); err != nil {
		return err
	}
	var batch pgx.Batch
	for _, s := range tx.queued {
		batch.Queue(s.text, s.args...)
	}
	queued := tx.queued
	tx.queued, tx.begun = nil, true
	answers := tx.pg.SendBatch(ctx, &batch)
	for _, s := range queued {
		if err := s.read(answers); err != nil {
			_ = answers.Close() // the same fault, or what follows from it
			return err
		}
	}
	return answers.Close()
}

func (s *statement) read(answers pgx.BatchResults) error {
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if s.scan != nil {
			if err := s.scan(rows); err != nil {
				return err
			}
		}
	}
	if s.tag != nil {
		*s.tag = rows.CommandTag()
	}
	return rows.Err()
}

// rollbackWithin bounds giving up a transaction: what does not answer is cut off.
//
//bound:timeout rolling a transaction back, at PostgreSQL | {} | its connection is closed
const rollbackWithin = 5 * time.Second

var errRolledBack = errors.New("sqldb: the commit found the transaction aborted by a statement before it")

// postgres runs f in a transaction that the statement begin begins; "": each statement is by itself.
func postgres(ctx context.Context, conn *pgx.Conn, begin string, f func(tx *Tx) error) (err error) {
	tx := &Tx{pg: conn, ended: ctx.Err}
	if begin != "" {
		tx.queued = append(tx.queued, statement{text: begin})
	}
	done := false
	defer func() {
		if !done && conn.PgConn().TxStatus() != 'I' { // f failed or panicked
			rollback(ctx, conn)
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	switch {
	case begin == "":
		return tx.Send(ctx)
	case !tx.begun && len(tx.queued) == 1: // nothing but BEGIN
		return nil
	}
	var tag pgconn.CommandTag
	tx.queued = append(tx.queued, statement{text: "COMMIT", tag: &tag})
	if err := tx.Send(ctx); err != nil {
		return err
	}
	if tag.String() != "COMMIT" {
		return errRolledBack
	}
	done = true
	return nil
}

func rollback(ctx context.Context, conn *pgx.Conn) {
	//bound:exempt rollbackWithin says it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackWithin)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = conn.Close(ctx) // the pool makes another
	}
}
