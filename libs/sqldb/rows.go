package sqldb

import (
	"context"
	"strconv"
	"strings"
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
// PostgreSQL is given an array a column: to read, plan and fill in a parameter a value costs it as much as
// inserting does. SQLite, and columns of other than texts, integers or bytes, have VALUES, some rows at a time: powers
// of two, so that few statements are made and few are prepared.
func QueueRows(ctx context.Context, tx *Tx, into string, columns []string, rows [][]any, suffix string, scan func(Row) error) error {
	if len(rows) == 0 {
		return nil
	}
	insert := "INSERT INTO " + into + " (" + strings.Join(columns, ", ") + ") "
	if tx.pg != nil {
		if from, args := unnested(rows); from != "" {
			return tx.Queue(ctx, insert+"SELECT * FROM "+from+" "+suffix, args, scan)
		}
	}
	for size := maxChunk; len(rows) > 0; size /= 2 {
		for len(rows) >= size {
			values, args := listed(rows[:size])
			if err := tx.Queue(ctx, insert+values+suffix, args, scan); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
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

// listed gives rows as VALUES.
func listed(rows [][]any) (values string, args []any) {
	text := append(make([]byte, 0, 8+7*len(rows)*len(rows[0])), "VALUES "...)
	args = make([]any, 0, len(rows)*len(rows[0]))
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
	return string(append(text, ' ')), args
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
