package conversation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/media"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/erase"
	"tributary.dev/services/conversation/project"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

// Service is the descriptor.
var Service = app.Service{Name: erase.HolderName, Config: func() any { return DefaultConfig() },
	Needs: []string{app.BucketURL, app.RegistryToken}, Build: build}

const day = 24 * time.Hour

// A transaction that projects costs some twenty statements, however many events it is of, and a row for each
// conversation and person of theirs: it takes many at once, and events that come of different partitions share one.
const (
	projectionsAtOnce = 4
	projectionEvents  = 2000
	projectionsApart  = 4 * time.Millisecond
)

// Topics that this service reads or writes, with what it asks of them.
func Topics() []bus.Topic {
	topics := append(accounts.Topics(),
		bus.Topic{Name: store.TopicConversations, Retention: 14 * day},
		bus.Topic{Name: store.TopicContacts, Compacted: true},
		bus.Topic{Name: store.TopicAcks, Retention: 90 * day},
		bus.Topic{Name: erase.LedgerTopic, Compacted: true})
	for _, name := range channel.Names() {
		topics = append(topics,
			inbound.Events(name),
			bus.Topic{Name: store.TopicOutbound(name), Retention: 3 * day, OffsetsOutlive: true})
	}
	return topics
}

func build(ctx context.Context, d *app.Deps) (_ *app.Parts, err error) {
	cfg := d.Settings.(*Config)
	db, err := d.OpenDB(ctx, "conversation", store.Migrations())
	if err != nil {
		return nil, err
	}
	bucket, err := media.OpenBucket(ctx, d.Common.BucketURL)
	if err != nil {
		return nil, err
	}
	closers := []func() error{bucket.Close}
	closeAll := func() error {
		var faults []error
		for i := len(closers) - 1; i >= 0; i-- {
			faults = append(faults, closers[i]())
		}
		return errors.Join(faults...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()

	// Whoever commits wakes the relay, and the relay those who wait for positions: the two are tied here.
	var outbox *relay.Relay
	var read *api.API
	committed := func() { outbox.Wake() }
	if outbox, err = relay.New(db, d.Bus, d.Clock, d.Telemetry, cfg.Poll, d.Process, func(page relay.Page) { read.Placed(page) }); err != nil {
		return nil, err
	}
	closers = append(closers, outbox.Close)

	var send *sending.Sending
	connections := bus.NewTable(d.Bus, bus.TableConfig[*pb.Connection]{
		Topic: accounts.ConnectionsTopic,
		Decode: func(value []byte) (*pb.Connection, error) {
			c := &pb.Connection{}
			return c, proto.Unmarshal(value, c)
		},
		OnChange: func(string, *pb.Connection, bool) { send.Wake() }, // what waited for it may leave
	})
	if send, err = sending.New(db, d.Seal, connections, d.Clock, d.Telemetry, sending.Config{
		Late: d.Common.SendLate, LongestCall: d.Common.SendLongestCall, Expiry: cfg.SendExpiry,
		PerConnection: cfg.PerConnection, Poll: cfg.Poll,
	}, committed); err != nil {
		return nil, err
	}
	if cfg.Restored {
		ended, err := send.EndOutstanding(ctx)
		if err != nil {
			return nil, fmt.Errorf("end what was outstanding: %w", err)
		}
		d.Log.InfoContext(ctx, "what was outstanding at the backup has ended as unknown", "count", ended)
	}
	projector, err := project.New(db, send, d.Clock, d.Telemetry, outbox)
	if err != nil {
		return nil, err
	}
	closers = append(closers, projector.Close)
	holder, err := erase.New(db, bucket, d.Seal, d.Clock, d.Telemetry, committed)
	if err != nil {
		return nil, err
	}
	ledger := erase.NewLedger(d.Bus, holder, d.Common.CacheTTL+erase.CacheMargin)
	idempotency := endpointx.NewIdempotency(db, d.Secret("idempotency"), d.Clock.Now)
	if read, err = api.New(api.Config{
		DB: db, Seal: d.Seal, Clock: d.Clock, Sending: send, Idempotency: idempotency, Bucket: bucket, Committed: committed,
	}); err != nil {
		return nil, err
	}
	closers = append(closers, func() error { read.Close(); return nil })

	var sources []string
	for _, name := range channel.Names() {
		sources = append(sources, inbound.Events(name).Name)
	}
	return &app.Parts{
		Routes: read.Routes(),
		Topics: Topics(),
		Subscriptions: []bus.Subscription{
			{Group: "conversation", Topics: sources, MaxBatch: projectionEvents, Handle: bus.Together(projectionsAtOnce, projectionEvents, projectionsApart, ledger.Before(projector.Handle)), Dying: projector.Dying},
			holder.Subscription(),
		},
		Jobs: []app.Job{
			{Name: "connections", Run: connections.Run},
			{Name: "erasure ledger", Run: ledger.Run},
			{Name: "relay", Run: outbox.Run},
			{Name: "pump", Run: send.Pump},
			{Name: "sweep", Run: send.Sweep},
			{Name: "objects", Run: holder.DeleteObjects},
			{Name: "forget", Run: forget(d, projector, outbox, read)},
			{Name: "idempotency", Run: idempotency.Run},
			// Where another replica holds the relay's lease, its topic tells that there is something to read.
			{Name: "streams", Run: func(ctx context.Context) error {
				return outbox.WhileNotHeld(ctx, func(ctx context.Context) error {
					return d.Bus.Tail(ctx, []string{store.TopicConversations}, func(r bus.Record) { read.Published(r.Value) })
				})
			}},
		},
		Ready: []app.Check{{Name: "connections", Ready: func() error {
			if !connections.Ready() {
				return errors.New("the connections are not known yet")
			}
			return nil
		}}, {Name: "erasure ledger", Ready: ledger.Ready}},
		Holds:   erase.Holdings(),
		OpenAPI: openAPI,
		Close:   closeAll,
	}, nil
}

// forget forgets, every hour, what lies behind its horizon.
func forget(d *app.Deps, projector *project.Projector, outbox *relay.Relay, read *api.API) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(time.Hour)
		defer tick.Stop()
		for {
			err := projector.Forget(ctx)
			for more := true; more && err == nil; {
				more, err = outbox.Prune(ctx)
			}
			if err := errors.Join(err, read.SweepUploads(ctx)); err != nil && ctx.Err() == nil {
				d.Log.WarnContext(ctx, "what is old is not forgotten yet", "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}
