// Package project makes of channel events what the API shows: contacts, conversations, messages and what
// hangs on them. What it writes is a function of the set of events: their order stands in them, each
// is counted once, and whatever comes early waits. So partitions, batches, repetitions and the time of
// arrival make no difference.
package project

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

// Projector handles the records of inbound topics. It is safe for concurrent use.
type Projector struct {
	db      *sqldb.DB
	sending *sending.Sending
	clock   *clock.Clock
	tel     *telemetry.Telemetry
	outbox  Outbox
	mets    metCache

	events  metric.Int64Counter
	metrics metric.Registration
}

// Outbox is what the projector needs of who carries the outbox to the topics.
type Outbox interface {
	// Turn is asked for by each transaction that writes to it, and Committed is told after it.
	Turn() *store.Turn
	Committed(turn *store.Turn)
}

// New makes a projector.
func New(db *sqldb.DB, send *sending.Sending, clk *clock.Clock, tel *telemetry.Telemetry, outbox Outbox) (*Projector, error) {
	p := &Projector{db: db, sending: send, clock: clk, tel: tel, outbox: outbox}
	var err error
	if p.events, err = tel.Meter.Int64Counter("tributary_events_projected",
		metric.WithDescription("Channel events, by type and what became of them: new, seen, gone, echo or unknown.")); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	waiting, err := tel.Meter.Int64ObservableGauge("tributary_waiting_events",
		metric.WithDescription("Events that came before their message and wait for it, by kind."))
	if err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	p.metrics, err = tel.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return p.observe(ctx, func(kind string, n int64) {
			o.ObserveInt64(waiting, n, metric.WithAttributes(attribute.String("kind", kind)))
		})
	}, waiting)
	return p, err
}

// Close ends the projector's metrics.
func (p *Projector) Close() error { return p.metrics.Unregister() }

// Handle projects a batch in one transaction. A record that can't be read, or that the database can't
// take, is a bus.DataFault; any other error passes, and the batch is to be handled again.
func (p *Projector) Handle(ctx context.Context, records []bus.Record) error {
	events, err := decode(records)
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, span := p.tel.Tracer.Start(ctx, "project events", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.Int("messaging.batch.message_count", len(records))))
	defer span.End()
	var done *batch
	project := func(expecting bool) error {
		return p.db.Tx(ctx, func(tx *sqldb.Tx) error {
			done = newBatch(p, tx, events, expecting)
			return done.run(ctx)
		})
	}
	expecting := len(events) <= expectedOf
	// A fault of what is not to be written at all is none.
	if err = project(expecting); errors.Is(err, errUnexpected) || expecting && sqldb.IsDataFault(err) {
		err = project(false)
	}
	if err != nil {
		span.RecordError(errors.New("batch failed")) // the cause may quote a row
		if sqldb.IsDataFault(err) {
			return bus.DataFault("constraint", err)
		}
		return err
	}
	for what, n := range done.counts {
		p.events.Add(ctx, n, metric.WithAttributes(attribute.String("type", inbound.Word(what.typ)), attribute.String("result", what.result)))
	}
	p.mets.keep(done.mets)
	p.outbox.Committed(done.turn)
	if len(done.receipts) > 0 {
		p.sending.Wake()
	}
	p.trace(records, events, began, span.SpanContext())
	return nil
}

// trace tells, in the trace that each event came in, when it was projected, and in which batch.
func (p *Projector) trace(records []bus.Record, events []*event, began time.Time, batch trace.SpanContext) {
	for i, r := range records {
		ctx := telemetry.Extract(context.Background(), r.Headers)
		if !trace.SpanContextFromContext(ctx).IsSampled() {
			continue
		}
		_, span := p.tel.Tracer.Start(ctx, "project event", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began),
			trace.WithLinks(trace.Link{SpanContext: batch}), trace.WithAttributes(
				attribute.String("cloudevents.event_id", events[i].GetId()), attribute.String("cloudevents.event_type", "tributary."+inbound.Word(events[i].GetType()))))
		span.End()
	}
}

// event is a channel event with the trace that it came in.
type event struct {
	*pb.ChannelEvent
	trace string
}

func decode(records []bus.Record) ([]*event, error) {
	events := make([]*event, len(records))
	for i, r := range records {
		e := &event{ChannelEvent: &pb.ChannelEvent{}}
		if err := proto.Unmarshal(r.Value, e.ChannelEvent); err != nil {
			return nil, bus.DataFault("undecodable", errors.New("not a ChannelEvent"))
		}
		if missing := missing(e.ChannelEvent); missing != "" {
			return nil, bus.DataFault("incomplete", errors.New("event without "+missing))
		}
		for _, h := range r.Headers {
			if h.Key == "traceparent" {
				e.trace = string(h.Value)
			}
		}
		events[i] = e
	}
	return events, nil
}

// missing names a field that an event of this type can't do without.
func missing(e *pb.ChannelEvent) string {
	type need struct {
		name  string
		given bool
	}
	needs := []need{{"id", e.GetId() != ""}, {"workspace_id", e.GetWorkspaceId() != ""}, {"connection_id", e.GetConnectionId() != ""}}
	message := need{"message_id", e.GetMessageId() != ""}
	target := need{"target_external_id", e.GetTargetExternalId() != ""}
	author := need{"author_subject", e.GetAuthorSubject() != ""}
	order := need{"order_us", e.GetOrderUs() > 0}
	switch e.GetType() {
	case pb.EventType_EVENT_TYPE_MESSAGE:
		needs = append(needs, message, order, need{"external_id", e.GetExternalId() != ""}, need{"conversation_key", e.GetConversationKey() != ""},
			need{"direction", e.GetDirection() != pb.Direction_DIRECTION_UNSPECIFIED})
	case pb.EventType_EVENT_TYPE_EDIT:
		needs = append(needs, message, target, order)
	case pb.EventType_EVENT_TYPE_DELETION:
		needs = append(needs, target, order)
	case pb.EventType_EVENT_TYPE_REACTION:
		needs = append(needs, target, author, order, need{"reaction", e.GetReaction().GetReactionKey() != ""})
	case pb.EventType_EVENT_TYPE_ATTACHMENT:
		needs = append(needs, target, need{"attachments", len(e.GetAttachments()) > 0})
	case pb.EventType_EVENT_TYPE_RECEIPT:
		r := e.GetReceipt()
		needs = append(needs, need{"receipt", r.GetStatus() != pb.Status_STATUS_UNSPECIFIED},
			need{"what its receipt is about", r.GetMessageId() != "" || e.GetTargetExternalId() != "" || r.GetThroughUs() > 0})
	case pb.EventType_EVENT_TYPE_PROFILE, pb.EventType_EVENT_TYPE_CONSENT:
		needs = append(needs, author)
	case pb.EventType_EVENT_TYPE_COMMERCE:
		c := e.GetCommerce()
		needs = append(needs, author, order, need{"commerce", c.GetKind() != "" && c.GetId() != ""},
			need{"an order of the shop's", !e.GetOrderReceived()})
	}
	for _, n := range needs {
		if !n.given {
			return n.name
		}
	}
	return ""
}

// known tells whether this version knows what to do with a type.
func known(t pb.EventType) bool {
	switch t {
	case pb.EventType_EVENT_TYPE_MESSAGE, pb.EventType_EVENT_TYPE_EDIT, pb.EventType_EVENT_TYPE_DELETION, pb.EventType_EVENT_TYPE_REACTION,
		pb.EventType_EVENT_TYPE_RECEIPT, pb.EventType_EVENT_TYPE_ATTACHMENT, pb.EventType_EVENT_TYPE_PROFILE, pb.EventType_EVENT_TYPE_CONSENT,
		pb.EventType_EVENT_TYPE_REVOCATION, pb.EventType_EVENT_TYPE_MEMBERSHIP, pb.EventType_EVENT_TYPE_ERASED, pb.EventType_EVENT_TYPE_COMMERCE:
		return true
	}
	return false
}
