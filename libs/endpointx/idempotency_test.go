package endpointx_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
)

var migrations = fstest.MapFS{"00001_start.sql": {Data: []byte("-- +goose Up\n" + endpointx.IdempotencySQL + ";\nCREATE TABLE items (id TEXT PRIMARY KEY, text TEXT NOT NULL);\n")}}

// maker makes items idempotently, and can be told to fail after the item was made.
type maker struct {
	db   *sqldb.DB
	idem *endpointx.Idempotency
	made atomic.Int64
	fail atomic.Bool
}

func (m *maker) handler() http.Handler {
	return endpointx.JSON(endpointx.Options{Idempotency: m.idem}, func(ctx context.Context, i item) (map[string]string, error) {
		var id string
		err := m.db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
			id, _, err = m.idem.Do(ctx, tx, func() (string, error) {
				made := strconv.FormatInt(m.made.Add(1), 10)
				if _, err := tx.ExecContext(ctx, `INSERT INTO items (id, text) VALUES ($1, $2)`, made, i.Text); err != nil {
					return "", err
				}
				if m.fail.Load() {
					return "", errors.New("no")
				}
				return made, nil
			})
			return err
		})
		return map[string]string{"id": id}, err
	})
}

func (m *maker) items(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, m.db.View(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT count(*) FROM items`).Scan(&n)
	}))
	return n
}

func TestIdempotency(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		m := &maker{db: db}
		m.idem = endpointx.NewIdempotency(db, []byte("secret"), func() time.Time { return now })
		h := m.handler()
		call := func(workspace, key, path, body string) (*httptest.ResponseRecorder, doc) {
			r := post(path, body)
			if key != "" {
				r.Header.Set("Idempotency-Key", key)
			}
			return serve(h, r.WithContext(access.With(r.Context(), access.Caller{WorkspaceID: workspace})))
		}
		const path, a, b = "/v1/items/1", `{"text":"a"}`, `{"text":"b"}`

		first, _ := call("w", "k", path, a)
		require.Equal(t, 200, first.Code, first.Body.String())
		again, _ := call("w", "k", path, a)
		require.Equal(t, first.Body.String(), again.Body.String(), "the same resource")
		require.Equal(t, 1, m.items(t))

		other, d := call("w", "k", path, b)
		require.Equal(t, http.StatusConflict, other.Code)
		require.Equal(t, "conflict", d.Code)
		elsewhere, _ := call("w", "k", "/v1/items/2", a)
		require.Equal(t, http.StatusConflict, elsewhere.Code, "another path is another request")
		neighbour, _ := call("x", "k", path, b)
		require.Equal(t, 200, neighbour.Code, "keys are a workspace's own")

		_, _ = call("w", "", path, a)
		_, _ = call("w", "", path, a)
		require.Equal(t, 4, m.items(t), "without a key each request makes one")

		m.fail.Store(true)
		failed, _ := call("w", "f", path, a)
		require.Equal(t, 500, failed.Code)
		require.Equal(t, 4, m.items(t))
		m.fail.Store(false)
		retried, _ := call("w", "f", path, a)
		require.Equal(t, 200, retried.Code, "a request that failed left no key behind")

		now = now.Add(24 * time.Hour)
		late, _ := call("w", "k", path, b)
		require.Equal(t, 200, late.Code, "after 24 h a key is free")
		require.NoError(t, m.idem.Sweep(t.Context()))
		var left int
		require.NoError(t, db.View(t.Context(), func(tx *sqldb.Tx) error {
			return tx.QueryRowContext(t.Context(), `SELECT count(*) FROM idempotency`).Scan(&left)
		}))
		require.Equal(t, 1, left)

		for _, bad := range [][]string{{""}, {"ä"}, {string(make([]byte, 256))}, {"k", "l"}} {
			r := post(path, a)
			r.Header["Idempotency-Key"] = bad
			w, d := serve(h, r)
			require.Equal(t, 422, w.Code)
			require.Contains(t, d.Fields, "Idempotency-Key")
		}
	})
}

func TestIdempotencyOfManyAtOnce(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		m := &maker{db: db}
		m.idem = endpointx.NewIdempotency(db, []byte("secret"), time.Now)
		h := m.handler()
		bodies := make([]string, 12)
		var all sync.WaitGroup
		for i := range bodies {
			all.Go(func() {
				r := post("/v1/items/1", `{"text":"a"}`)
				r.Header.Set("Idempotency-Key", "k")
				w, _ := serve(h, r.WithContext(access.With(r.Context(), access.Caller{WorkspaceID: "w"})))
				bodies[i] = w.Body.String()
			})
		}
		all.Wait()
		for _, body := range bodies {
			require.Equal(t, bodies[0], body)
			require.Contains(t, body, `"id"`)
		}
		require.Equal(t, 1, m.items(t))
	})
}
