package registry

import (
	"context"
	"crypto/ed25519"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/privacy/registry/keystore"
)

// Migrations of the registry's database.
//
//go:embed migrations
var Migrations embed.FS

// Publisher puts the outbox on the bus.
type Publisher interface {
	Publish(ctx context.Context, msgs ...bus.Message) error
}

// Holders knows what the services that store personal data hold.
type Holders interface {
	// StoresNothing gives those of the subjects for which every holder has said, after it was asked, that
	// it stores nothing.
	StoresNothing(ctx context.Context, subjectIDs []string) ([]string, error)
}

// Deps is what the registry is built on.
type Deps struct {
	// DB is the registry's own database, migrated by Migrations.
	DB *sqldb.DB
	// Keys is outside of it.
	Keys KeyStore
	Bus  Publisher
	// Holders may be nil: then nothing is swept.
	Holders Holders
	Log     *slog.Logger
	Meter   metric.Meter
	// Now is the clock of the mesh; nil: time.Now.
	Now func() time.Time
}

// Registry is the key registry. Safe for concurrent use, also of several processes on one database and
// key store.
type Registry struct {
	cfg     Config
	db      *sqldb.DB
	vault   *vault
	bus     Publisher
	holders Holders
	log     *slog.Logger
	meters  meters
	now     func() time.Time

	turning sync.Mutex
	relay   chan struct{}
	// killed, in tests, ends a turn at the step named.
	killed func(step string) error
}

// Open makes the registry ready: with an epoch, a list of erased identities and a spool key.
func Open(ctx context.Context, cfg Config, d Deps) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	r := &Registry{
		cfg: cfg, db: d.DB, bus: d.Bus, holders: d.Holders, log: d.Log, meters: newMeters(d.Meter), now: d.Now,
		vault: &vault{store: d.Keys, now: d.Now, cached: map[string]cachedSecret{}},
		//bound:queue wake-ups of who publishes the erasure ledger | {} | the next is dropped: one is enough
		relay: make(chan struct{}, 1), killed: func(string) error { return nil },
	}
	if err := r.ensureEpoch(ctx); err != nil {
		return nil, fmt.Errorf("first epoch: %w", err)
	}
	if err := r.keepErasedLists(ctx); err != nil {
		return nil, fmt.Errorf("list of erased identities: %w", err)
	}
	if err := r.keepSpoolKeys(ctx); err != nil {
		return nil, fmt.Errorf("spool key: %w", err)
	}
	return r, nil
}

// Now is the mesh's time, which every answer carries.
func (r *Registry) Now() time.Time { return r.now().UTC() }

// signingSecret is the name of the seed of the key that signs certificates.
const signingSecret = "certificate-signing-key"

// SigningKey of certificates; made when first asked for, and kept in the key store for good.
func (r *Registry) SigningKey(ctx context.Context) (ed25519.PrivateKey, error) {
	seed, _, err := r.vault.get(ctx, signingSecret)
	if isGone(err) {
		if err = r.vault.store.Create(ctx, signingSecret, newSecret()); err == nil || errors.Is(err, keystore.ErrExists) {
			seed, _, err = r.vault.get(ctx, signingSecret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ErrUnusable: the key store does not have the secrets of the registry's epochs.
var ErrUnusable = errors.New("registry: the secret of an epoch is not in the key store: the database is from before the last turn, or the key store is another's")

// Usable tells whether the registry can answer with the key store that it has.
func (r *Registry) Usable(ctx context.Context) error {
	err := again(ctx, func() error {
		return r.db.View(ctx, func(tx *sqldb.Tx) error {
			_, err := r.readEpochs(ctx, tx)
			return err
		})
	})
	if errors.Is(err, errEpochMoved) {
		err = errors.Join(ErrUnusable, err)
	}
	return err
}

// epoch is one period in which data keys are wrapped under one secret.
type epoch struct {
	id    string
	begun time.Time
	keys  *secretKeys
}

// epochs are the current one, and the old one while a turn is under way.
type epochs struct {
	current epoch
	old     *epoch
}

// errEpochMoved: the epoch turned while it was worked with. Try again.
var errEpochMoved = errors.New("registry: the epoch turned meanwhile")

const (
	roleCurrent = "current"
	roleOld     = "old"
)

// readEpochs reads the epochs and their secrets.
func (r *Registry) readEpochs(ctx context.Context, tx *sqldb.Tx) (e epochs, err error) {
	err = sqldb.Query(ctx, tx, `SELECT id, role, begun_us FROM epochs`, nil, func(rows sqldb.Row) error {
		var one epoch
		var role string
		var begun int64
		if err := rows.Scan(&one.id, &role, &begun); err != nil {
			return err
		}
		one.begun = time.UnixMicro(begun)
		switch role {
		case roleCurrent:
			e.current = one
		case roleOld:
			e.old = &one
		}
		return nil
	})
	if err == nil && e.current.id == "" {
		err = errors.New("registry: no current epoch")
	}
	if err == nil {
		err = r.loadEpoch(ctx, &e.current)
	}
	if err == nil && e.old != nil {
		err = r.loadEpoch(ctx, e.old)
	}
	return e, err
}

func (r *Registry) loadEpoch(ctx context.Context, e *epoch) (err error) {
	if _, e.keys, err = r.vault.get(ctx, epochSecret(e.id)); isGone(err) {
		return fmt.Errorf("%w (%s: no secret)", errEpochMoved, e.id)
	}
	return err
}

// lookup is the epoch by whose pepper identities are looked up and unique.
func (e epochs) lookup() epoch {
	if e.old != nil {
		return *e.old
	}
	return e.current
}

func (e epochs) byID(id string) (*secretKeys, error) {
	switch {
	case id == e.current.id:
		return e.current.keys, nil
	case e.old != nil && id == e.old.id:
		return e.old.keys, nil
	}
	return nil, errEpochMoved
}

// ensureEpoch makes the first epoch.
func (r *Registry) ensureEpoch(ctx context.Context) error {
	var n int
	err := r.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM epochs`).Scan(&n)
	})
	if err != nil || n > 0 {
		return err
	}
	id := uuid.NewString()
	if err := r.createSecret(ctx, epochSecret(id), newSecret()); err != nil {
		return err
	}
	err = r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		if err := adopt(ctx, tx, epochSecret(id)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO epochs (id, role, begun_us) VALUES ($1, $2, $3)`, id, roleCurrent, r.now().UnixMicro())
		return err
	})
	if sqldb.IsUnique(err) {
		return nil // another process made it
	}
	return err
}

// again runs f until no epoch turns and no list ends in the middle of it.
func again(ctx context.Context, f func() error) error {
	const tries = 8
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == tries || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, errEpochMoved) && !errors.Is(err, errMoved) && !sqldb.IsForeignKey(err) {
			return err
		}
	}
}

// errMoved: a row that was read is no longer what it was. Try again.
var errMoved = errors.New("registry: overtaken")
