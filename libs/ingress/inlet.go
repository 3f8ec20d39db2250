package ingress

import (
	"context"
	"time"

	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

var _ channel.Inlet = (*Ingress)(nil)

// Account finds the connection of an account, as channel.Inlet says. One whose credentials do not open is an error.
func (in *Ingress) Account(ctx context.Context, externalID string) (*channel.Connection, bool, error) {
	arrived := time.Now()
	c, ok := in.Accounts.ByAccount(externalID)
	if !ok {
		if err := in.confirm(ctx, arrived); err != nil {
			return nil, false, err
		}
		c, ok = in.Accounts.ByAccount(externalID)
	}
	if !ok || c.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_DISABLED {
		return nil, false, nil
	}
	conn, err := in.Accounts.Opened(ctx, c)
	if err != nil {
		return nil, false, unavailable("secrets")
	}
	return conn, true, nil
}

// Take makes a result's events durable, as channel.Inlet says: published, else spooled.
func (in *Ingress) Take(ctx context.Context, conn *channel.Connection, result channel.Result) error {
	select {
	case in.requests <- struct{}{}:
		defer func() { <-in.requests }()
	default:
		return unavailable("busy")
	}
	c, ok := in.Accounts.Connection(conn.ID)
	if !ok {
		return unavailable("accounts")
	}
	if err := in.accept(context.WithoutCancel(ctx), source{connection: c}, result, time.Now(), in.Clock.Now()); err != nil {
		return err
	}
	in.metrics.accepted.Add(struct{}{}, 1)
	return nil
}
