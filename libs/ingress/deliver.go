package ingress

import (
	"context"
	"encoding/json"
	"errors"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// deliver makes items durable: published, else spooled, and set aside where their data is at fault. An
// error is a 503.
func (in *Ingress) deliver(ctx context.Context, items []item) error {
	if len(items) == 0 {
		return nil
	}
	outcomes, err := in.seal(ctx, items, in.answerWithin)
	if err == nil {
		err = in.publishWithin(ctx, outcomes)
	}
	if err != nil {
		return in.keep(ctx, items)
	}
	in.counted(ctx, outcomes)
	for i, o := range outcomes {
		if o.fault == "" {
			continue
		}
		entry, err := in.entry(items[i], o.fault)
		if err == nil {
			err = in.setAside(ctx, items[i].ReceivedAt, entry, o.fault)
		}
		if err != nil {
			return unkept(err)
		}
	}
	return nil
}

// answerWithin the registry's budget, and only while its breaker lets it, unless all is known without it.
func (in *Ingress) answerWithin(ctx context.Context, p people) error {
	if in.remembered(p) {
		return nil
	}
	_, err := in.registryBreaker.Execute(func() (struct{}, error) {
		//bound:timeout the registry, of a webhook | {Config.RegistryBudget} | spooled
		ctx, cancel := context.WithTimeout(ctx, in.cfg.RegistryBudget)
		defer cancel()
		return struct{}{}, in.answer(ctx, p)
	})
	return err
}

// publishWithin the budget, and only while the breaker lets it.
func (in *Ingress) publishWithin(ctx context.Context, outcomes []outcome) error {
	msgs := messages(outcomes)
	if len(msgs) == 0 {
		return nil
	}
	_, err := in.publishBreaker.Execute(func() (struct{}, error) {
		//bound:timeout the brokers, of a webhook | {Config.PublishBudget} | spooled
		ctx, cancel := context.WithTimeout(ctx, in.cfg.PublishBudget)
		defer cancel()
		return struct{}{}, in.publish(ctx, msgs)
	})
	return err
}

func (in *Ingress) publish(ctx context.Context, msgs []bus.Message) error {
	if trace.SpanFromContext(ctx).IsRecording() {
		var span trace.Span
		ctx, span = in.Telemetry.Tracer.Start(ctx, "publish "+in.topic, trace.WithSpanKind(trace.SpanKindProducer))
		defer span.End()
	}
	return in.Publisher.Publish(ctx, msgs...)
}

func messages(outcomes []outcome) []bus.Message {
	msgs := make([]bus.Message, 0, len(outcomes))
	for _, o := range outcomes {
		if o.msg.Value != nil {
			msgs = append(append(msgs, o.msg), o.copies...)
		}
	}
	return msgs
}

// eventsOf counts those that messages gives, without copies.
func eventsOf(outcomes []outcome) (n int) {
	for _, o := range outcomes {
		if o.msg.Value != nil {
			n++
		}
	}
	return n
}

// counted counts what became of events that are published.
func (in *Ingress) counted(ctx context.Context, outcomes []outcome) {
	for _, o := range outcomes {
		switch {
		case o.dropped:
			in.metrics.add(ctx, in.metrics.noSubject, 1, typed(string(o.typ)))
		case o.erased:
			in.metrics.add(ctx, in.metrics.erased, 1)
		case o.fault == "":
			in.metrics.published.Add(o.typ, 1)
			if o.author != "" {
				in.fetches.published(o.author)
			}
		}
	}
}

// keep spools items. It refuses where the spool's oldest entry is so old that its key may go before the
// drain comes to it.
func (in *Ingress) keep(ctx context.Context, items []item) error {
	if spoolLag(in.spool, in.Clock) >= in.cfg.SpoolLag {
		return unkept(errLagging)
	}
	entries := make([][]byte, len(items))
	for i, it := range items {
		var err error
		if entries[i], err = in.entry(it, ""); err != nil {
			return unkept(err)
		}
	}
	if err := in.spool.Append(items[0].ReceivedAt, entries...); err != nil {
		return unkept(err)
	}
	in.metrics.add(ctx, in.metrics.spooled, len(items))
	select {
	case in.arrived <- struct{}{}:
	default:
	}
	return nil
}

var (
	errLagging    = errors.New("ingress: the spool lags too far behind")
	errNoSpoolKey = errors.New("ingress: no spool key is known")
)

// unkept: an event could neither be published nor spooled. The reason shows in the count of refusals.
func unkept(err error) error {
	what := "spool"
	switch {
	case errors.Is(err, errLagging):
		what = "spool_lagging"
	case errors.Is(err, errNoSpoolKey):
		what = "spool_key"
	case errors.Is(err, spool.ErrFull):
		what = "spool_full"
	}
	return unavailable(what)
}

// entry seals an item to the spool key of the day. setAside says why it is not for the spool itself.
func (in *Ingress) entry(it item, setAside string) ([]byte, error) {
	key, ok := in.SpoolKeys.Current(in.Clock.Now())
	if !ok {
		return nil, errNoSpoolKey
	}
	plain, err := json.Marshal(it)
	if err != nil {
		return nil, errors.New("ingress: an item is not to be written")
	}
	e := &pb.SpoolEntry{SpoolKeyId: key.GetId(), SetAside: setAside}
	if e.Enc, e.SealedKey, e.Ciphertext, err = seal.SealSpool(key, plain); err != nil {
		return nil, err
	}
	return proto.Marshal(e)
}
