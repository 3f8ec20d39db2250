// Package sqltest runs store tests on every database: on SQLite always, on PostgreSQL where one is given
// in TRIBUTARY_TEST_POSTGRES. Each test has a database of its own.
package sqltest

import (
	"context"
	"database/sql"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver that makes and drops databases

	"tributary.dev/libs/sqldb"
)

// Env names the PostgreSQL to test on: a URL whose user may create databases.
const Env = "TRIBUTARY_TEST_POSTGRES"

// Each runs test as a subtest on each database there is. Without PostgreSQL that subtest is skipped, and
// with CI=true it fails.
func Each(t *testing.T, migrations fs.FS, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t, migrations)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t, migrations)) })
}

// SQLite opens a new database in a file of the test's own.
func SQLite(t testing.TB, migrations fs.FS) *sqldb.DB {
	t.Helper()
	return open(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"), migrations)
}

// Postgres opens a new database on the server given, or skips the test (with CI=true: fails it).
func Postgres(t testing.TB, migrations fs.FS) *sqldb.DB {
	t.Helper()
	return open(t, PostgresURL(t), migrations)
}

// PostgresURL makes an empty database that goes with the test, and gives its URL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	server := os.Getenv(Env)
	if server == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal(Env + " is not set, and CI needs PostgreSQL: run `make services`")
		}
		t.Skip("NOT RUN on PostgreSQL: " + Env + " is not set (`make services` starts one)")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + uuid.NewString()[:13]
	name = name[:13] + name[14:] // no dash: the name needs no quotes
	if _, err := admin.ExecContext(context.Background(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
		_ = admin.Close()
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func open(t testing.TB, dsn string, migrations fs.FS) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(context.Background(), sqldb.Config{URL: dsn, Migrations: migrations})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}
