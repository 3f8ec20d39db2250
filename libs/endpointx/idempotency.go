package endpointx

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
)

// IdempotencySQL creates the table; services copy it into a migration.
const IdempotencySQL = `CREATE TABLE idempotency (
	workspace_id TEXT NOT NULL,
	key          TEXT NOT NULL,
	body_hmac    TEXT NOT NULL,
	resource_id  TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	PRIMARY KEY (workspace_id, key)
)`

// Idempotency keeps, per workspace and Idempotency-Key, an HMAC of the request and the id of what was
// made, for 24 h, in the service's own database: the same key and request answers the same resource;
// another request is 409. The HMAC is keyed because a body may hold personal data, and a plain hash of
// that is personal data too.
type Idempotency struct {
	db     *sqldb.DB
	secret []byte
	now    func() time.Time
}

//bound:cache idempotency keys, in the database | {} | forgotten: the same key makes anew
const idempotencyKept = 24 * time.Hour

// NewIdempotency makes the store. Every replica must be given the same secret.
func NewIdempotency(db *sqldb.DB, secret []byte, now func() time.Time) *Idempotency {
	return &Idempotency{db: db, secret: secret, now: now}
}

// Do calls f, which makes something in tx and names it, unless the request's Idempotency-Key has made it
// before: then it gives that id, and replayed is true. Another request under the same key is a Conflict. Of
// two at once with the same key the second waits for the first's transaction.
func (i *Idempotency) Do(ctx context.Context, tx *sqldb.Tx, f func() (resourceID string, err error)) (resourceID string, replayed bool, err error) {
	key, ok := ctx.Value(idempotencyContext{}).(idempotencyKey)
	if i == nil || !ok || key.key == "" {
		resourceID, err = f()
		return resourceID, false, err
	}
	caller, _ := access.From(ctx)
	mac := i.mac(key)
	now := i.now()
	var reserved string
	err = tx.QueryRowContext(ctx, `INSERT INTO idempotency (workspace_id, key, body_hmac, resource_id, created_at)
		VALUES ($1, $2, $3, '', $4)
		ON CONFLICT (workspace_id, key) DO UPDATE SET body_hmac = excluded.body_hmac, resource_id = '', created_at = excluded.created_at
		WHERE idempotency.created_at <= $5
		RETURNING key`,
		caller.WorkspaceID, key.key, mac, now.UnixMicro(), now.Add(-idempotencyKept).UnixMicro()).Scan(&reserved)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		resourceID, err = i.replay(ctx, tx, caller.WorkspaceID, key.key, mac)
		return resourceID, err == nil, err
	case err != nil:
		return "", false, err
	}
	if resourceID, err = f(); err != nil {
		return "", false, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE idempotency SET resource_id = $3 WHERE workspace_id = $1 AND key = $2`,
		caller.WorkspaceID, key.key, resourceID)
	return resourceID, false, err
}

// Run forgets keys of more than 24 h, every hour, until ctx ends.
func (i *Idempotency) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := i.Sweep(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep forgets keys of more than 24 h.
func (i *Idempotency) Sweep(ctx context.Context) error {
	return i.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM idempotency WHERE created_at <= $1`, i.now().Add(-idempotencyKept).UnixMicro())
		return err
	})
}

func (i *Idempotency) replay(ctx context.Context, tx *sqldb.Tx, workspace, key, mac string) (resourceID string, err error) {
	var kept string
	err = tx.QueryRowContext(ctx, `SELECT body_hmac, resource_id FROM idempotency WHERE workspace_id = $1 AND key = $2`,
		workspace, key).Scan(&kept, &resourceID)
	if err != nil {
		return "", err
	}
	if !hmac.Equal([]byte(kept), []byte(mac)) {
		return "", Conflict("this Idempotency-Key was used before for another request")
	}
	return resourceID, nil
}

// mac is of what makes two requests the same: method, path and body.
func (i *Idempotency) mac(k idempotencyKey) string {
	h := hmac.New(sha256.New, i.secret)
	for _, field := range [][]byte{[]byte(k.method), []byte(k.path), k.body} {
		h.Write(binary.AppendUvarint(nil, uint64(len(field))))
		h.Write(field)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// idempotencyKey is what a request brought.
type idempotencyKey struct {
	key, method, path string
	body              []byte
}

type idempotencyContext struct{}

func withIdempotencyKey(ctx context.Context, k idempotencyKey) context.Context {
	if k.key == "" {
		return ctx
	}
	return context.WithValue(ctx, idempotencyContext{}, k)
}

func readIdempotencyKey(r *http.Request, body []byte) (idempotencyKey, error) {
	key := r.Header.Get("Idempotency-Key")
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			key = ""
		}
	}
	if given := r.Header["Idempotency-Key"]; len(given) > 1 || given != nil && (key == "" || len(key) > 255) {
		return idempotencyKey{}, problem.Invalid(map[string]string{"Idempotency-Key": "must be 1 to 255 printable ASCII characters, once"})
	}
	return idempotencyKey{key: key, method: r.Method, path: r.URL.Path, body: body}, nil
}
