package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tributary.dev/libs/sqldb"
	"tributary.dev/services/privacy/registry/keystore"
)

// KeyStore keeps secrets outside every database dump. Get of one that is not there is keystore.ErrNone,
// Create of one that is there keystore.ErrExists; Destroy of one that is not there is no error.
type KeyStore interface {
	Create(ctx context.Context, name string, secret []byte) error
	Get(ctx context.Context, name string) ([]byte, error)
	Destroy(ctx context.Context, name string) error
}

const (
	// secretCached bounds how long a secret of the key store is used without asking for it again: one
	// destroyed by another process is gone here after that.
	secretCached = 45 * time.Second
	// secretAdopted is how long a new secret may take to be referred to.
	secretAdopted = 10 * time.Minute
)

func epochSecret(id string) string  { return "epoch-" + id }
func erasedSecret(id string) string { return "erased-" + id }
func spoolSecret(id string) string  { return "spool-" + id }

// vault gives the secrets of the key store, and what is derived from them.
type vault struct {
	store KeyStore
	now   func() time.Time

	mu sync.Mutex
	//bound:cache secrets of the key store | those used within {secretCached} | asked for again
	cached map[string]cachedSecret
}

type cachedSecret struct {
	secret []byte
	keys   *secretKeys
	got    time.Time
}

// get gives a secret; keystore.ErrNone when it is no more.
func (v *vault) get(ctx context.Context, name string) ([]byte, *secretKeys, error) {
	v.mu.Lock()
	c, ok := v.cached[name]
	v.mu.Unlock()
	if age := v.now().Sub(c.got); ok && age >= 0 && age < secretCached {
		return c.secret, c.keys, nil
	}
	secret, err := v.store.Get(ctx, name)
	if err != nil {
		v.forget(name)
		return nil, nil, err
	}
	keys, err := deriveKeys(secret)
	if err != nil {
		return nil, nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for other, c := range v.cached { // few: those of today and of the days before
		if v.now().Sub(c.got) >= secretCached {
			delete(v.cached, other)
		}
	}
	v.cached[name] = cachedSecret{secret, keys, v.now()}
	return secret, keys, nil
}

func (v *vault) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.cached, name)
}

func (v *vault) destroy(ctx context.Context, name string) error {
	v.forget(name)
	err := v.store.Destroy(ctx, name)
	v.forget(name) // one that was just being read
	return err
}

// createSecret makes a secret that is doomed until the transaction that refers to it calls adopt: killed
// in between, nothing stays behind in the key store.
func (r *Registry) createSecret(ctx context.Context, name string, secret []byte) error {
	err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO doomed_secrets (name, not_before_us, after_backup) VALUES ($1, $2, 0)`,
			name, r.now().Add(secretAdopted).UnixMicro())
		return err
	})
	if err != nil {
		return err
	}
	return r.vault.store.Create(ctx, name, secret)
}

var errSecretLost = errors.New("registry: a new secret was destroyed before it was referred to")

func adopt(ctx context.Context, tx *sqldb.Tx, name string) error {
	done, err := tx.ExecContext(ctx, `DELETE FROM doomed_secrets WHERE name = $1`, name)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errSecretLost, err)
	}
	return nil
}

// doom notes a secret that nothing refers to any more.
func doom(ctx context.Context, tx *sqldb.Tx, name string, afterBackup bool) error {
	after := 0
	if afterBackup {
		after = 1
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO doomed_secrets (name, not_before_us, after_backup) VALUES ($1, 0, $2) ON CONFLICT (name) DO NOTHING`, name, after)
	return err
}

// destroyDoomed destroys the secrets that are due; of those that wait for a backup only when told that it
// was made.
func (r *Registry) destroyDoomed(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := r.vault.destroy(ctx, name); err != nil {
			return fmt.Errorf("destroy secret %s: %w", name, err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	list, args := sqldb.In(1, names)
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM doomed_secrets WHERE name IN (`+list+`)`, args...)
		return err
	})
}

func (r *Registry) doomed(ctx context.Context, afterBackup int) (names []string, err error) {
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		names = nil
		return sqldb.Query(ctx, tx, `SELECT name FROM doomed_secrets WHERE after_backup = $1 AND not_before_us <= $2 ORDER BY name LIMIT 1000`,
			[]any{afterBackup, r.now().UnixMicro()}, func(rows sqldb.Row) error {
				var name string
				err := rows.Scan(&name)
				names = append(names, name)
				return err
			})
	})
	return names, err
}

// isGone tells a secret that was destroyed meanwhile from a key store that can't be reached.
func isGone(err error) bool { return errors.Is(err, keystore.ErrNone) }
