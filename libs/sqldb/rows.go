package sqldb

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// chunks are the numbers of rows that one statement inserts: few, so that few statements are prepared.
var chunks = []int{64, 8, 1}

// InsertRows runs "INSERT INTO <into> (<columns>) VALUES … <suffix>" for all rows, in fixed chunks. Each
// row holds a value per column. suffix may be an ON CONFLICT clause and may end in RETURNING; then scan is
// called for every row returned. Fold the rows per key and sort them by it before: PostgreSQL refuses a
// second upsert of a key in one statement, and unsorted ones deadlock against each other.
func InsertRows(ctx context.Context, tx *sql.Tx, into string, columns []string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	for _, size := range chunks {
		for len(rows) >= size {
			if err := insertChunk(ctx, tx, into, columns, rows[:size], suffix, scan); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

func insertChunk(ctx context.Context, tx *sql.Tx, into string, columns []string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	var b strings.Builder
	b.WriteString("INSERT INTO " + into + " (" + strings.Join(columns, ", ") + ") VALUES ")
	args := make([]any, 0, len(rows)*len(columns))
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for j, value := range row {
			if j > 0 {
				b.WriteString(", ")
			}
			args = append(args, value)
			b.WriteString("$" + strconv.Itoa(len(args)))
		}
		b.WriteByte(')')
	}
	b.WriteString(" " + suffix)
	if scan == nil {
		_, err := tx.ExecContext(ctx, b.String(), args...)
		return err
	}
	return Query(ctx, tx, b.String(), args, scan)
}

// Query runs a query and calls scan for each of its rows.
func Query(ctx context.Context, tx *sql.Tx, query string, args []any, scan func(*sql.Rows) error) error {
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

// maxIn is the longest list that In takes: what both databases' parameter limits leave room for.
const maxIn = 8192

// In expands a list for "IN (…)": placeholders from $start on and the values as arguments. The list is
// padded to a power of two by repeating its last value, so that few statements are prepared. An empty
// list matches nothing. It panics above 8,192 values: callers work in batches.
func In[T any](start int, values []T) (placeholders string, args []any) {
	if len(values) == 0 {
		return "NULL", nil
	}
	if len(values) > maxIn {
		panic("sqldb: list for IN is too long: " + strconv.Itoa(len(values)))
	}
	size := 1
	for size < len(values) {
		size *= 2
	}
	var b strings.Builder
	args = make([]any, size)
	for i := range size {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("$" + strconv.Itoa(start+i))
		args[i] = values[min(i, len(values)-1)]
	}
	return b.String(), args
}
