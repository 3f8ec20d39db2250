package connect

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// revocations hear what providers say of credentials.
type revocations struct {
	s       *service
	applied metric.Int64Counter
}

func newRevocations(s *service, meter metric.Meter) (*revocations, error) {
	applied, err := meter.Int64Counter("tributary_revocations_total",
		metric.WithDescription("What providers said of connections' credentials, by what came of it."))
	return &revocations{s, applied}, err
}

// handle acts on a batch of revocations. What it did shows before the batch is committed, and doing it again
// changes nothing.
func (h *revocations) handle(ctx context.Context, batch []bus.Record) error {
	var events []*pb.ChannelEvent
	for _, rec := range batch {
		var e pb.ChannelEvent
		if err := proto.Unmarshal(rec.Value, &e); err != nil {
			return bus.DataFault("not_an_event", err)
		}
		if e.GetType() == pb.EventType_EVENT_TYPE_REVOCATION {
			events = append(events, &e)
		}
	}
	if len(events) == 0 {
		return nil
	}
	var outcomes []string
	err := h.s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		outcomes = outcomes[:0]
		for _, e := range events {
			outcome, err := revoke(ctx, tx, e, h.s.now())
			if err != nil {
				return err
			}
			outcomes = append(outcomes, outcome)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, e := range events {
		h.applied.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", e.GetChannel()), attribute.String("outcome", outcomes[i])))
		h.s.log.InfoContext(ctx, "connection's credentials are void", "connection_id", e.GetConnectionId(), "reason", e.GetReason(), "outcome", outcomes[i])
	}
	h.s.relay.flush(ctx)
	return nil
}

// revoke applies one event. Of all that a provider says since the credentials were given the gravest
// counts, so that order and repetition change nothing; a disconnected connection stays as it is.
func revoke(ctx context.Context, tx *sqldb.Tx, e *pb.ChannelEvent, now time.Time) (outcome string, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE connections SET updated_at = updated_at WHERE id = $1`, e.GetConnectionId()); err != nil {
		return "", err
	}
	var r connectionRow
	err = r.scan(tx.QueryRowContext(ctx, `SELECT `+connectionColumns+` FROM connections WHERE id = $1`, e.GetConnectionId()).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return "unknown", nil
	}
	if err != nil {
		return "", err
	}
	status := reauthorise
	if uninstalled(e.GetReason()) {
		status = revoked
	}
	switch {
	case older(e, r.authorisedAt):
		return "older", nil
	case r.status == disabled, r.status == revoked, r.status == status:
		return "known", nil
	}
	if status == revoked {
		r.drop(revoked, e.GetReason(), now)
	} else {
		r.void(e.GetReason(), now)
	}
	return status, r.write(ctx, tx)
}

// uninstalled tells a person's decision, after which the credentials must go, from credentials that merely
// do not work.
func uninstalled(reason string) bool {
	return reason == "app_uninstalled" || reason == "tokens_revoked" || reason == "deauthorised"
}

// older tells whether an event is about credentials before those of authorisedAt. A provider's time in
// whole seconds may lie in the second of authorising, after it.
func older(e *pb.ChannelEvent, authorisedAt int64) bool {
	second := time.Second.Microseconds()
	if !e.GetOrderReceived() && e.GetOrderUs()%second == 0 {
		authorisedAt -= authorisedAt % second
	}
	return e.GetOrderUs() < authorisedAt
}
