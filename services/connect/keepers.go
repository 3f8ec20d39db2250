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
)

// keepers seal what only a channel's adapter may open. Connect asks them to encrypt and never to decrypt.
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

func (k *keepers) close() error {
	var errs []error
	for _, keeper := range k.byChannel {
		errs = append(errs, keeper.Close())
	}
	return errors.Join(errs...)
}
