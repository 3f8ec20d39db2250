package app

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func holdersTopic() bus.Topic {
	return bus.Topic{Name: "holders", Partitions: 1, Compacted: true}
}

// commandsTopic keeps what every holder and every key cache must hear of.
func commandsTopic() bus.Topic {
	return bus.Topic{Name: "privacy.commands", Retention: 90 * 24 * time.Hour}
}

// evict drops a frozen subject's keys from the caches of this process at once. What it misses, because it
// was starting or the brokers were away, the caches' own time limit catches.
func (r *run) evict(ctx context.Context) error {
	return r.p.Bus.Tail(ctx, []string{commandsTopic().Name}, func(rec bus.Record) {
		var c pb.PrivacyCommand
		if err := proto.Unmarshal(rec.Value, &c); err != nil {
			r.p.Telemetry.Log.WarnContext(telemetry.Extract(ctx, rec.Headers), "privacy command not readable", "error", err)
			return
		}
		if c.GetKind() == pb.PrivacyCommand_KIND_FREEZE {
			for _, s := range r.services {
				s.deps.Seal.Evict(c.GetSubjectId())
			}
		}
	})
}

// publishHolders declares what the services store of persons, once; the topic keeps it.
func (r *run) publishHolders(ctx context.Context) error {
	var msgs []bus.Message
	for _, s := range r.services {
		if len(s.parts.Holds) == 0 {
			continue
		}
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Holder{Name: s.name, Holdings: s.parts.Holds})
		if err != nil {
			return err
		}
		msgs = append(msgs, bus.Message{
			Topic: holdersTopic().Name, Key: s.name, Value: value,
			Headers: telemetry.EventHeaders(telemetry.Inject(ctx, nil), s.name, "tributary.holder", s.name, r.p.Clock.NowMicros()),
		})
	}
	if len(msgs) > 0 {
		if err := r.p.Bus.Publish(ctx, msgs...); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
