package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxChunk is the most rows that one statement with VALUES inserts: more cost the server memory and save nothing.
const maxChunk = 256

// InsertRows runs "INSERT INTO <into> (<columns>) … <suffix>" for all rows. Each row holds a value per column.
// suffix may be an ON CONFLICT clause and may end in RETURNING; then scan is called for every row returned. Fold
// the rows per key and sort them by it before: PostgreSQL refuses a second upsert of a key in one statement, and
// unsorted ones deadlock against each other.
//
// PostgreSQL is given an array a column: to read, plan and fill in a parameter a value costs it as much as
// inserting does. SQLite, and columns of other than texts, integers or bytes, have VALUES, some rows at a time: powers
// of two, so that few statements are made and few are prepared.
func InsertRows(ctx context.Context, tx *sql.Tx, into string, columns []string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	if len(rows) == 0 {
		return nil
	}
	insert := "INSERT INTO " + into + " (" + strings.Join(columns, ", ") + ") "
	if err := run(ctx, tx, insert, []any{arrays{rows, suffix}}, scan); !errors.Is(err, errNoArrays) {
		return err
	}
	for size := maxChunk; len(rows) > 0; size /= 2 {
		for len(rows) >= size {
			if err := insertChunk(ctx, tx, insert, rows[:size], suffix, scan); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

// arrays are the argument of a statement that inserts rows given by column. Only pgx lets an argument rewrite its
// statement; for any other driver database/sql asks it for its value. Both fail before anything is sent where
// arrays won't do.
type arrays struct {
	rows   [][]any
	suffix string
}

var errNoArrays = errors.New("sqldb: arrays won't do")

// Value implements driver.Valuer.
func (arrays) Value() (driver.Value, error) { return nil, errNoArrays }

// RewriteQuery implements pgx.QueryRewriter.
func (a arrays) RewriteQuery(_ context.Context, _ *pgx.Conn, insert string, _ []any) (string, []any, error) {
	parameters := make([]string, len(a.rows[0]))
	columns := make([]any, len(parameters))
	for i := range columns {
		var typ string
		if columns[i], typ = columnOf(a.rows, i); typ == "" {
			return "", nil, errNoArrays
		}
		parameters[i] = "$" + strconv.Itoa(i+1) + "::" + typ + "[]"
	}
	return insert + "SELECT * FROM unnest(" + strings.Join(parameters, ", ") + ") " + a.suffix, columns, nil
}

// columnOf gives an array of rows' ith values and their type; "" where they are of no type that will do, or of several.
func columnOf(rows [][]any, i int) (column any, typ string) {
	var ok bool
	switch rows[0][i].(type) {
	case string:
		if column, ok = each(rows, i, func(value any) (s string, ok bool) { s, ok = value.(string); return }); ok {
			return column, "text"
		}
	case []byte:
		if column, ok = each(rows, i, func(value any) (b []byte, ok bool) { b, ok = value.([]byte); return }); ok {
			return column, "bytea"
		}
	case int, int32, int64:
		if column, ok = each(rows, i, integer); ok {
			return column, "bigint"
		}
	}
	return nil, ""
}

func each[T any](rows [][]any, i int, as func(any) (T, bool)) ([]T, bool) {
	column := make([]T, len(rows))
	for n, row := range rows {
		var ok bool
		if column[n], ok = as(row[i]); !ok {
			return nil, false
		}
	}
	return column, true
}

func integer(value any) (int64, bool) {
	switch n := value.(type) {
	case int:
		return int64(n), true
	case int32:
		return int64(n), true
	case int64:
		return n, true
	}
	return 0, false
}

func insertChunk(ctx context.Context, tx *sql.Tx, insert string, rows [][]any, suffix string, scan func(*sql.Rows) error) error {
	values := len(rows) * len(rows[0])
	text := make([]byte, 0, len(insert)+8+7*values+len(suffix))
	text = append(text, insert+"VALUES "...)
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
	return run(ctx, tx, string(append(append(text, ' '), suffix...)), args, scan)
}

func run(ctx context.Context, tx *sql.Tx, statement string, args []any, scan func(*sql.Rows) error) error {
	if scan == nil {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}
	return Query(ctx, tx, statement, args, scan)
}

// Queryer is a transaction or a connection.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Query runs a query and calls scan for each of its rows.
func Query(ctx context.Context, on Queryer, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := on.QueryContext(ctx, query, args...)
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
