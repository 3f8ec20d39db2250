package sqldb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/wire"
)

var migrations = fstest.MapFS{"0001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE kinds (id TEXT PRIMARY KEY);
CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL CHECK (n < 1000000), kind TEXT REFERENCES kinds(id));
`)}}

func insert(ctx context.Context, tx *sqldb.Tx, rows [][]any, suffix string, scan func(sqldb.Row) error) error {
	return sqldb.InsertRows(ctx, tx, "things", []string{"id", "n"}, rows, suffix, scan)
}

func TestReadReadsWhatWasCommitted(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		if err := db.Tx(ctx, func(tx *sqldb.Tx) error { return insert(ctx, tx, [][]any{{"a", 1}, {"b", 2}}, "", nil) }); err != nil {
			t.Fatal(err)
		}
		var got []string
		read := func(query string, args ...any) error {
			got = nil
			return db.Read(ctx, func(tx *sqldb.Tx) error {
				return sqldb.Query(ctx, tx, query, args, func(rows sqldb.Row) error {
					var id string
					err := rows.Scan(&id)
					got = append(got, id)
					return err
				})
			})
		}
		if err := read("SELECT id FROM things WHERE n > $1 ORDER BY id", 0); err != nil || !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("%v, %v", got, err)
		}
		if err := read("SELECT nothing FROM things"); err == nil {
			t.Fatal("a statement that can't be is none's fault")
		}
		if err := read("SELECT id FROM things WHERE n = $1", 3); err != nil || got != nil {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func TestInsertRowsInsertsEveryRowOnceWhateverTheChunks(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		var rows [][]any
		var want []string
		for i := range 2*256 + 127 {
			id := string([]byte{'a' + byte(i/26), 'a' + byte(i%26)})
			want = append(want, id)
			rows = append(rows, []any{id, i})
		}
		var got []string
		err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			got = nil
			return insert(ctx, tx, rows, "ON CONFLICT (id) DO NOTHING RETURNING id", func(r sqldb.Row) error {
				var id string
				err := r.Scan(&id)
				got = append(got, id)
				return err
			})
		})
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v", got, err)
		}
		list, args := sqldb.In(1, []string{"aa", "ab", "zz"})
		var n int
		err = db.View(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRowContext(ctx, "SELECT count(*) FROM things WHERE id IN ("+list+")", args...).Scan(&n)
		})
		if err != nil || n != 2 {
			t.Fatalf("in: %d, %v", n, err)
		}
	})
}

func TestInsertRowsKeepsEveryKindOfValue(t *testing.T) {
	values := fstest.MapFS{"0001_kept.sql": {Data: []byte(`-- +goose Up
CREATE TABLE kept (id TEXT PRIMARY KEY, small INTEGER NOT NULL, large BIGINT NOT NULL, raw BYTEA, maybe TEXT, share REAL);
`)}}
	sqltest.Each(t, values, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		for name, c := range map[string]struct {
			columns []string
			rows    [][]any
			want    string
		}{
			"plain":   {[]string{"id", "small", "large", "raw"}, [][]any{{"a", 1, int64(1) << 40, []byte{7}}, {"b, \"{}", int32(-2), 3, []byte(nil)}}, "a 1 1099511627776 '07' - -; b, \"{} -2 3 NULL - -"},
			"nothing": {[]string{"id", "small", "large", "maybe"}, [][]any{{"c", 0, 0, nil}, {"d", 0, 0, "x"}}, "c 0 0 NULL - -; d 0 0 NULL x -"},
			"others":  {[]string{"id", "small", "large", "share"}, [][]any{{"e", 0, 0, .5}, {"f", 0, 0, 2.}}, "e 0 0 NULL - 0.5; f 0 0 NULL - 2"},
		} {
			var got []string
			if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
				got = nil
				return sqldb.InsertRows(ctx, tx, "kept", c.columns, c.rows, "RETURNING id, small, large, raw, maybe, share", func(rows sqldb.Row) error {
					var id string
					var small int
					var large int64
					var raw []byte
					var maybe sql.NullString
					var share sql.NullFloat64
					err := rows.Scan(&id, &small, &large, &raw, &maybe, &share)
					text := fmt.Sprintf("%s %d %d ", id, small, large)
					if raw == nil {
						text += "NULL"
					} else {
						text += fmt.Sprintf("'%x'", raw)
					}
					for _, v := range []any{maybe, share} {
						switch v, err := v.(driver.Valuer).Value(); {
						case err != nil:
							return err
						case v == nil:
							text += " -"
						default:
							text += fmt.Sprint(" ", v)
						}
					}
					got = append(got, text)
					return err
				})
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if slices.Sort(got); strings.Join(got, "; ") != c.want {
				t.Errorf("%s: %s, want %s", name, strings.Join(got, "; "), c.want)
			}
		}
	})
}

func TestFaultsAreToldApart(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		exec := func(query string, args ...any) error {
			return db.Tx(ctx, func(tx *sqldb.Tx) error { _, err := tx.ExecContext(ctx, query, args...); return err })
		}
		if err := exec("INSERT INTO things (id, n) VALUES ($1, $2)", "a", 1); err != nil {
			t.Fatal(err)
		}
		unique := exec("INSERT INTO things (id, n) VALUES ($1, $2)", "a", 1)
		check := exec("INSERT INTO things (id, n) VALUES ($1, $2)", "b", 1000000)
		foreign := exec("INSERT INTO things (id, n, kind) VALUES ($1, $2, $3)", "c", 1, "none")
		syntax := exec("INSERT INTO nowhere VALUES (1)")
		for name, c := range map[string]struct {
			err                   error
			data, unique, foreign bool
		}{
			"unique":  {unique, true, true, false},
			"check":   {check, true, false, false},
			"foreign": {foreign, true, false, true},
			"syntax":  {syntax, false, false, false},
		} {
			if c.err == nil || sqldb.IsDataFault(c.err) != c.data || sqldb.IsUnique(c.err) != c.unique || sqldb.IsForeignKey(c.err) != c.foreign {
				t.Errorf("%s: %v: data %v unique %v foreign %v", name, c.err, sqldb.IsDataFault(c.err), sqldb.IsUnique(c.err), sqldb.IsForeignKey(c.err))
			}
		}
	})
}

func TestFaultsOfTheStoreAreToldFromTheOthers(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		exec := func(query string) error {
			return db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
				for statement := range strings.SplitSeq(query, "; ") {
					if _, failed := tx.ExecContext(ctx, statement); failed != nil {
						err = failed
					}
				}
				return err
			})
		}
		store := map[string]string{"full": "PRAGMA max_page_count = 1; INSERT INTO kinds VALUES (hex(zeroblob(1000000)))"}
		if db.Dialect() == "postgres" {
			store = map[string]string{
				"full":        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100';END $$",
				"lock":        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03';END $$",
				"too long":    "SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)",
				"stood still": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25P03';END $$",
				"terminated":  "SELECT pg_terminate_backend(pg_backend_pid())",
			}
		}
		for name, query := range store {
			if err := exec(query); !sqldb.IsStoreFault(err) || sqldb.IsDataFault(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, query := range []string{"INSERT INTO nowhere VALUES (1)", "INSERT INTO things (id, n) VALUES ('a', 1000000)"} {
			if err := exec(query); err == nil || sqldb.IsStoreFault(err) {
				t.Errorf("%s: %v", query, err)
			}
		}
	})
}

func TestAServerThatIsNotThereIsAFaultOfTheStore(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: "postgres://x@127.0.0.1:1/x?sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(t.Context(), func(*sqldb.Tx) error { return nil }); !sqldb.IsStoreFault(err) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.View(ctx, func(*sqldb.Tx) error { return nil }); err == nil || sqldb.IsStoreFault(err) {
		t.Fatal(err)
	}
}

func TestAFailedTransactionLeavesNothing(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		mine := errors.New("mine")
		err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			if err := insert(ctx, tx, [][]any{{"a", 1}}, "", nil); err != nil {
				return err
			}
			return mine
		})
		if !errors.Is(err, mine) {
			t.Fatal(err)
		}
		var n int
		if err := db.View(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRowContext(ctx, "SELECT count(*) FROM things").Scan(&n)
		}); err != nil || n != 0 {
			t.Fatalf("%d rows, %v", n, err)
		}
	})
}

func TestATransactionThatOutlivesItsContextFailsForThat(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			for failed := error(nil); failed == nil; {
				_, failed = tx.ExecContext(t.Context(), "SELECT 1")
			}
			return nil // it has ended behind our back: to commit is too late
		})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrTxDone) {
			t.Errorf("it fails with %v", err)
		}
	})
}

func TestConcurrentTransactionsAllLand(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		if err := db.Tx(ctx, func(tx *sqldb.Tx) error { return insert(ctx, tx, [][]any{{"a", 0}, {"b", 0}}, "", nil) }); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 5 {
					// Opposite orders: on PostgreSQL these deadlock, and are run again. It finds a deadlock only
					// after a second; with more of them the waits would add up to its lock_timeout.
					ids := []string{"a", "b"}
					if i == 0 {
						slices.Reverse(ids)
					}
					if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
						for _, id := range ids {
							if _, err := tx.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = $1", id); err != nil {
								return err
							}
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := db.View(ctx, func(tx *sqldb.Tx) error {
			var n int
			err := tx.QueryRowContext(ctx, "SELECT sum(n) FROM things").Scan(&n)
			if n != 40 {
				t.Errorf("%d, want 40", n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAViewCannotWrite(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		err := db.View(context.Background(), func(tx *sqldb.Tx) error {
			return insert(context.Background(), tx, [][]any{{"a", 1}}, "", nil)
		})
		if err == nil {
			t.Fatal("a view wrote")
		}
	})
}

func TestADatabaseFileIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "own.db")
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: "sqlite:" + path, Migrations: migrations})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", filepath.Base(file), info, err)
		}
	}
}

// TestAServerThatFallsSilentIsGivenUp in the middle of a transaction, and while a connection is tried that
// had been idle.
func TestAServerThatFallsSilentIsGivenUp(t *testing.T) {
	dsn, err := url.Parse(sqltest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	var network wire.Wire
	server := dsn.Host
	if err := network.Listen("127.0.0.1:0", func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server)
	}); err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	dsn.Host = network.Addr()
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: dsn.String(), AnswerTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Tx(t.Context(), func(tx *sqldb.Tx) error {
		network.Stall()
		_, err := tx.ExecContext(t.Context(), "SELECT 1")
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	network.Mend()
	if err := db.Tx(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(t.Context(), "SELECT 1")
		return err
	}); err != nil {
		t.Fatal("once it speaks again:", err)
	}
}

func TestWhatIsQueuedRunsInItsTurn(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		var seen []int
		count := func(row sqldb.Row) error {
			var n int
			err := row.Scan(&n)
			seen = append(seen, n)
			return err
		}
		const all = "SELECT COUNT(*) FROM things"
		if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			seen = nil
			return errors.Join(
				tx.Queue(ctx, all, nil, count),
				sqldb.QueueRows(ctx, tx, "things", []string{"id", "n"}, [][]any{{"a", 1}, {"b", 2}}, "", nil),
				sqldb.Query(ctx, tx, all, nil, count),
				tx.Queue(ctx, "DELETE FROM things WHERE id = $1", []any{"a"}, nil),
				tx.Queue(ctx, all, nil, count), // goes with the commit
			)
		}); err != nil || !slices.Equal(seen, []int{0, 2, 1}) {
			t.Fatalf("%v, %v", seen, err)
		}
		// A fault of what is queued fails the transaction, wherever it shows.
		err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			return errors.Join(insert(ctx, tx, [][]any{{"c", 3}}, "", nil), tx.Queue(ctx, "INSERT INTO things (id, n) VALUES ('b', 1)", nil, nil))
		})
		seen = nil
		if err2 := db.Read(ctx, func(tx *sqldb.Tx) error { return tx.Queue(ctx, all, nil, count) }); !sqldb.IsUnique(err) || err2 != nil || !slices.Equal(seen, []int{1}) {
			t.Fatalf("%v; left %v, %v", err, seen, err2)
		}
		// So does one that was looked over: nothing is committed half.
		if err := db.Tx(ctx, func(tx *sqldb.Tx) error {
			_ = insert(ctx, tx, [][]any{{"d", 4}}, "", nil)
			_ = insert(ctx, tx, [][]any{{"b", 1}}, "", nil)
			return nil
		}); db.Dialect() == "postgres" && err == nil {
			t.Fatal("PostgreSQL's aborted transaction is said to have committed")
		}
	})
}

func TestAHostThatIsGoneIsFoundByTheServer(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		if db.Dialect() != "postgres" {
			return // it has no other hosts
		}
		for _, setting := range []string{"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"} {
			if err := db.View(t.Context(), func(tx *sqldb.Tx) error {
				var seconds string
				err := tx.QueryRowContext(t.Context(), "SHOW "+setting).Scan(&seconds)
				if seconds != "4" && seconds != "1" {
					t.Errorf("%s is %s", setting, seconds)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
