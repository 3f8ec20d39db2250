package sqldb

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// maxChunk is the most rows that one statement inserts: more cost the server memory and save nothing.
const maxChunk = 256

// InsertRows runs "INSERT INTO <into> (<columns>) VALUES … <suffix>" for all rows, some at a time: powers of
// two, so that few statements are made and few are prepared. Each row holds a value per column. suffix may
// be an ON CONFLICT clause and may end in RETURNING; then scan is called for every row returned. Fold the
// rows per key and sort them by it before: PostgreSQL refuses a second upsert of a key in one statement, and
// unsorted ones deadlock against each other.
func InsertRows(ctx context.Context, tx *sql.Tx, into string, columns []string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	for size := maxChunk; len(rows) > 0; size /= 2 {
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
	values := len(rows) * len(rows[0])
	text := make([]byte, 0, 64+len(into)+16*len(columns)+7*values+len(suffix))
	text = append(text, "INSERT INTO "+into+" ("+strings.Join(columns, ", ")+") VALUES "...)
	args := make([]any, 0, values)
	for i, row := range rows {
		if i > 0 {
			text = append(text, ", "...)
		}
		before := byte('(')
		for _, value := range row {
			args = append(args, value)
			text = strconv.AppendInt(append(text, before, '$'), int64(len(args)), 10)
			before = ','
		}
		text = append(text, ')')
	}
	statement := string(append(append(text, ' '), suffix...))
	if scan == nil {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}
	return Query(ctx, tx, statement, args, scan)
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
