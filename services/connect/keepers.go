package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key://, for those who have no key service
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// keepers seal what only a channel's adapter, and connect, may open: connect to ask the provider how an account is, to
// keep its credentials fresh, and to take them back.
type keepers struct {
	byChannel map[string]*secrets.Keeper
}

// keeperTimeout bounds one question to a keeper that is a service.
const keeperTimeout = 3 * time.Second

func openKeepers(ctx context.Context, common app.Common) (*keepers, error) {
	k := &keepers{byChannel: map[string]*secrets.Keeper{}}
	for _, name := range channel.Names() {
		keeper, err := secrets.OpenKeeper(ctx, common.Keeper(name))
		if err != nil {
			// The URL may be the key itself, and the error may quote it.
			return nil, errors.Join(fmt.Errorf("TRIBUTARY_KEEPER_URL: opens no keeper for %s", name), k.close())
		}
		k.byChannel[name] = keeper
	}
	return k, nil
}

func (k *keepers) seal(ctx context.Context, channel string, m proto.Message) ([]byte, error) {
	//bound:timeout a keeper that seals credentials | {} | 503
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	sealed, err := accounts.Sealed(ctx, k.byChannel[channel], m)
	if err != nil {
		return nil, errors.Join(endpointx.Unavailable("the keeper of secrets"), err)
	}
	return sealed, nil
}

// errNotOpened hides why: a keeper's error may carry its address, a decoder's some of the plaintext.
var errNotOpened = errors.New("connect: these secrets do not open with the channel's keeper")

func (k *keepers) open(ctx context.Context, channel string, sealed []byte, into proto.Message) error {
	keeper := k.byChannel[channel]
	if len(sealed) == 0 || keeper == nil {
		return errNotOpened
	}
	//bound:timeout a keeper that opens credentials | {} | 503; a job tries again
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	plain, err := keeper.Decrypt(ctx, sealed)
	if err != nil || proto.Unmarshal(plain, into) != nil {
		return errors.Join(endpointx.Unavailable("the keeper of secrets"), errNotOpened)
	}
	return nil
}

func (k *keepers) openApp(ctx context.Context, channel string, sealed []byte) (*pb.AppSecrets, error) {
	secrets := &pb.AppSecrets{}
	return secrets, k.open(ctx, channel, sealed, secrets)
}

// values are credentials, or what is stored as such.
func (k *keepers) values(ctx context.Context, channel string, sealed []byte) (map[string]string, error) {
	credentials := &pb.ConnectionCredentials{}
	err := k.open(ctx, channel, sealed, credentials)
	return credentials.GetValues(), err
}

func (k *keepers) close() error {
	var errs []error
	for _, keeper := range k.byChannel {
		errs = append(errs, keeper.Close())
	}
	return errors.Join(errs...)
}
