package accounts

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"gocloud.dev/secrets"
	"google.golang.org/protobuf/proto"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// ErrNoCredentials: the connection has none, or they don't open with this channel's keeper.
var ErrNoCredentials = errors.New("accounts: no credentials that open")

// openTimeout bounds one question to a keeper that is a service.
const openTimeout = time.Second

// opener opens credentials once and keeps them for as long as the sealed ones are the same: those that the
// tables have told it of, and no others.
//
//bound:cache opened credentials | one for each app and connection in the tables | goes with the sealed ones
type opener struct {
	keeper *secrets.Keeper

	mu          sync.Mutex
	apps        map[string]secret[App]
	connections map[string]secret[map[string]string]
}

// secret is what came of opening sealed; ok: it was opened.
type secret[T any] struct {
	sealed []byte
	opened T
	ok     bool
}

func newOpener(keeper *secrets.Keeper) *opener {
	return &opener{
		keeper:      keeper,
		apps:        map[string]secret[App]{},
		connections: map[string]secret[map[string]string]{},
	}
}

func (o *opener) app(key string, app *pb.App) App {
	a, ok := cached(o, o.apps, key, app.GetSealedSecrets())
	if a.App = app; ok {
		return a
	}
	//bound:timeout a keeper that opens an app's secrets | {} | 503 to webhooks of the app
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	opened := &pb.AppSecrets{}
	if o.open(ctx, app.GetSealedSecrets(), opened) != nil {
		return App{App: app}
	}
	a = App{App: app, ClientSecret: opened.GetClientSecret(), VerifyToken: opened.GetVerifyToken()}
	for _, s := range []string{opened.GetSigningSecret(), opened.GetPreviousSigningSecret()} {
		if s != "" {
			a.SigningSecrets = append(a.SigningSecrets, s)
		}
	}
	store(o, o.apps, key, app.GetSealedSecrets(), a)
	return a
}

func (o *opener) connection(ctx context.Context, c *pb.Connection) (map[string]string, error) {
	if values, ok := cached(o, o.connections, c.GetId(), c.GetSealedCredentials()); ok {
		return values, nil
	}
	//bound:timeout a keeper that opens a connection's credentials | {} | 503 to its webhooks, its commands are deferred
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	credentials := &pb.ConnectionCredentials{}
	if err := o.open(ctx, c.GetSealedCredentials(), credentials); err != nil {
		return nil, err
	}
	store(o, o.connections, c.GetId(), c.GetSealedCredentials(), credentials.GetValues())
	return credentials.GetValues(), nil
}

// open hides why: a keeper's error may carry its address, a decoder's some of the plaintext.
func (o *opener) open(ctx context.Context, sealed []byte, into proto.Message) error {
	if len(sealed) == 0 {
		return ErrNoCredentials
	}
	plain, err := o.keeper.Decrypt(ctx, sealed)
	if err != nil || proto.Unmarshal(plain, into) != nil {
		return ErrNoCredentials
	}
	return nil
}

// keepApp and keepConnection say what is sealed now, and forget what was opened of anything else.
func (o *opener) keepApp(key string, sealed []byte) { keepOnly(o, o.apps, key, sealed) }

func (o *opener) keepConnection(id string, sealed []byte) { keepOnly(o, o.connections, id, sealed) }

func cached[T any](o *opener, m map[string]secret[T], key string, sealed []byte) (opened T, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := m[key]
	return s.opened, s.ok && bytes.Equal(s.sealed, sealed)
}

// store keeps what was opened, unless something else is sealed by now.
func store[T any](o *opener, m map[string]secret[T], key string, sealed []byte, opened T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := m[key]; ok && bytes.Equal(s.sealed, sealed) {
		m[key] = secret[T]{sealed, opened, true}
	}
}

func keepOnly[T any](o *opener, m map[string]secret[T], key string, sealed []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(sealed) == 0 {
		delete(m, key)
	} else if !bytes.Equal(m[key].sealed, sealed) {
		m[key] = secret[T]{sealed: sealed}
	}
}

// Sealed seals credentials for a channel's keeper: the counterpart for connect.
func Sealed(ctx context.Context, keeper *secrets.Keeper, credentials proto.Message) ([]byte, error) {
	switch credentials.(type) {
	case *pb.AppSecrets, *pb.ConnectionCredentials:
	default:
		return nil, errors.New("accounts: these are no credentials")
	}
	plain, err := proto.Marshal(credentials)
	if err != nil {
		return nil, errors.New("accounts: these credentials can't be sealed")
	}
	return keeper.Encrypt(ctx, plain)
}
