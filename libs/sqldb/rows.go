package sqldb

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxChunk is the most rows that one statement with VALUES inserts: more cost the server memory and save nothing.
const maxChunk = 256

// InsertRows runs "INSERT INTO <into> (<columns>) … <suffix>" for all rows. Each row holds a value per column.
// suffix may be an ON CONFLICT clause and may end in RETURNING; then scan is called for every row returned. Fold
// the rows per key and sort them by it before: PostgreSQL refuses a second upsert of a key in one statement, and
// unsorted ones deadlock against each other.
func InsertRows(ctx context.Context, tx *Tx, into string, columns []string, rows [][]any, suffix string, scan func(Row) error) error {
	if len(rows) == 0 {
		return nil
	}
	if err := QueueRows(ctx, tx, into, columns, rows, suffix, scan); err != nil {
		return err
	}
	return tx.Send(ctx)
}

// QueueRows is InsertRows for what the caller can wait for, as Queue is.
//
// PostgreSQL is given several rows as an array a column: to read, plan and fill in a parameter a value costs it as much as
// inserting does. One row, which as arrays costs more, SQLite, and columns of other than texts, integers or bytes, have VALUES,
// some rows at a time: powers of two, so that few statements are made and few are prepared.
func QueueRows(ctx context.Context, tx *Tx, into string, columns []string, rows [][]any, suffix string, scan func(Row) error) error {
	if len(rows) == 0 {
		return nil
	}
	if tx.pg != nil && len(rows) > 1 {
		if from, args := unnested(rows); from != "" {
			return tx.Queue(ctx, insertInto(into, columns)+"SELECT * FROM "+from+" "+suffix, args, scan)
		}
	}
	for size := maxChunk; len(rows) > 0; size /= 2 {
		for len(rows) >= size {
			args := make([]any, 0, size*len(rows[0]))
			for _, row := range rows[:size] {
				args = append(args, row...)
			}
			if err := tx.Queue(ctx, insertText(into, columns, len(rows[0]), size, suffix), args, scan); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

func insertInto(into string, columns []string) string {
	return "INSERT INTO " + into + " (" + strings.Join(columns, ", ") + ") "
}

// texts are those of INSERTs with VALUES that were made before, by insertion: as many as the code has, in nine sizes.
var texts sync.Map

// insertion is what an INSERT's text follows from, but for the names of all columns but the first.
type insertion struct {
	into, first, suffix string
	values, size        int
}

// insertText is an INSERT with VALUES for some rows of values.
func insertText(into string, columns []string, values, size int, suffix string) string {
	type made struct {
		columns []string
		text    string
	}
	key := insertion{into, columns[0], suffix, values, size}
	if found, ok := texts.Load(key); ok && slices.Equal(found.(made).columns, columns) {
		return found.(made).text
	}
	text := insertInto(into, columns) + listed(values, size) + suffix
	texts.Store(key, made{columns, text})
	return text
}

// unnested gives rows as a table of arrays, one a column; "" where arrays won't do.
func unnested(rows [][]any) (from string, columns []any) {
	parameters := make([]string, len(rows[0]))
	columns = make([]any, len(parameters))
	for i := range columns {
		var typ string
		if columns[i], typ = columnOf(rows, i); typ == "" {
			return "", nil
		}
		parameters[i] = "$" + strconv.Itoa(i+1) + "::" + typ + "[]"
	}
	return "unnest(" + strings.Join(parameters, ", ") + ")", columns
}

// listed are VALUES of parameters, for some rows of values.
func listed(values, size int) string {
	text := append(make([]byte, 0, 8+7*size*values), "VALUES "...)
	for i := range size {
		if i > 0 {
			text = append(text, ", "...)
		}
		before := byte('(')
		for j := range values {
			text = strconv.AppendInt(append(text, before, '$'), int64(i*values+j+1), 10)
			before = ','
		}
		text = append(text, ')')
	}
	return string(append(text, ' '))
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
