package egress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// conversation is the conversation service's side of one: a line of messages, one command outstanding.
type conversation struct {
	w         *world
	key       string
	partition int
	line      []*message
	out       *attempt
	maxCalled int
	calling   bool
}

type message struct {
	seq      int
	id       string
	attempts []*attempt
}

type attempt struct {
	of        *message
	number    int32
	status    pb.Status
	deferred  bool
	notBefore time.Time
	position  int64
}

func (m *message) newest() *attempt { return m.attempts[len(m.attempts)-1] }

func (a *attempt) over() bool { return a.status >= pb.Status_STATUS_UNKNOWN }

func (w *world) post() {
	c := w.conns[w.pick("conversation", len(w.conns))]
	w.posted++
	m := &message{seq: len(c.line), id: fmt.Sprintf("%s/message-%d", c.key, len(c.line))}
	m.attempts = []*attempt{{of: m, number: 1, status: pb.Status_STATUS_QUEUED}}
	c.line = append(c.line, m)
	c.advance()
}

// advance lets the first that is not over leave, if nothing is outstanding.
func (c *conversation) advance() {
	if c.out != nil {
		return
	}
	for _, m := range c.line {
		a := m.newest()
		if a.over() {
			continue
		}
		if a.notBefore.After(time.Now()) {
			return
		}
		c.out = a
		a.position = c.w.publishCommand(c, a)
		return
	}
}

// publishCommand is the relay: positions rise, and a lost acknowledgement doubles.
func (w *world) publishCommand(c *conversation, a *attempt) int64 {
	w.position = max(w.position+1, time.Now().UnixMicro())
	cmd := &pb.Command{
		Id: channel.CommandID(a.of.id, 0, a.number), WorkspaceId: "w", ConnectionId: "connection", Channel: "model", ConversationKey: c.key,
		MessageId: a.of.id, Attempt: a.number, Kind: pb.CommandKind_COMMAND_KIND_TEXT, Position: w.position, Content: &pb.SealedPart{},
	}
	value, err := proto.Marshal(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	r := bus.Record{Topic: "outbound.model", Partition: c.partition, Key: c.key, Value: value}
	w.broker.history[c.partition] = append(w.broker.history[c.partition], r)
	w.append(c.partition, r)
	if w.chance("relay's ack lost", 3) {
		w.append(c.partition, r)
	}
	return w.position
}

func (w *world) append(partition int, r bus.Record) {
	r.Offset = int64(len(w.broker.logs[partition]))
	w.broker.logs[partition] = append(w.broker.logs[partition], r)
}

// relayAgain: a relay that does not know that it was replaced publishes a batch of the past.
func (w *world) relayAgain() {
	n := w.pick("partition", modelPartitions)
	if h := w.broker.history[n]; len(h) > 0 {
		from := w.pick("from", len(h))
		for _, r := range h[from:min(len(h), from+3)] {
			w.append(n, r)
		}
	}
}

// handleOne handles any of the inbound events; it may come again.
func (w *world) handleOne() {
	i := w.pick("event", len(w.inbound))
	e := w.inbound[i]
	if !w.chance("event doubled", 3) {
		w.inbound = slices.Delete(w.inbound, i, i+1)
	}
	if !w.seen[e.GetId()] {
		w.seen[e.GetId()] = true
		w.handle(e)
	}
}

func (w *world) handle(e *pb.ChannelEvent) {
	if e.GetType() != pb.EventType_EVENT_TYPE_RECEIPT {
		return
	}
	c := w.conns[slices.IndexFunc(w.conns, func(c *conversation) bool { return c.key == e.GetConversationKey() })]
	r := e.GetReceipt()
	m := c.line[slices.IndexFunc(c.line, func(m *message) bool { return m.id == r.GetMessageId() })]
	a := m.attempts[r.GetAttempt()-1]
	switch {
	case r.GetStatus() != pb.Status_STATUS_DEFERRED:
		a.status = max(a.status, r.GetStatus())
	case a.status == pb.Status_STATUS_UNKNOWN:
		a.status = pb.Status_STATUS_FAILED
	case !a.over() && !a.deferred:
		a.deferred = true
		next := &attempt{of: m, number: a.number + 1, status: pb.Status_STATUS_QUEUED}
		if r.GetNotBeforeUs() != 0 {
			next.notBefore = time.UnixMicro(r.GetNotBeforeUs())
		}
		m.attempts = append(m.attempts, next)
	}
	if c.out == a && (a.over() || a.deferred) {
		c.out = nil
	}
	c.advance()
}

// sweep ends as unknown what is `sending` and can't be called any more, and wakes what was deferred.
func (w *world) sweep() {
	for _, c := range w.conns {
		if a := c.out; a != nil && a.status == pb.Status_STATUS_SENDING && time.Since(time.UnixMicro(a.position)) > 6*time.Minute {
			a.status, c.out = pb.Status_STATUS_UNKNOWN, nil
		}
		c.advance()
	}
}

// call is what the provider has seen of one attempt.
type call struct{ out *channel.Outgoing }

// modelProvider checks every call against what it has seen, and answers in every way.
type modelProvider struct{ p *process }

func (m modelProvider) Check(*channel.Outgoing) error {
	if m.p.w.chance("refused by the channel", 5) {
		return &channel.Error{Class: channel.ClassReject, Code: "no"}
	}
	return nil
}

func (m modelProvider) Pace(*channel.Outgoing) channel.Pace {
	return channel.Pace{Key: "all", Every: time.Second, Burst: 3}
}

func (m modelProvider) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	w := m.p.w
	c := w.conns[slices.IndexFunc(w.conns, func(c *conversation) bool { return c.key == out.ConversationKey })]
	i := slices.IndexFunc(c.line, func(m *message) bool { return m.id == out.MessageID })
	key := fmt.Sprintf("%s/%d/%d", out.MessageID, out.Part, out.Attempt)
	seen := w.called[key]
	switch {
	case seen != nil && seen.out != out:
		w.t.Fatalf("%s is offered by two deliveries", key)
	case w.taken[out.MessageID]:
		w.t.Fatalf("%s is offered though it may have been taken before", key)
	case m.p.stopped:
		w.t.Fatalf("%s is offered by a process that is to stop", key)
	case i < c.maxCalled:
		w.t.Fatalf("%s is offered after message %d of its conversation", key, c.maxCalled)
	case c.calling:
		w.t.Fatalf("%s is offered while another of its conversation is", key)
	}
	if late := time.Since(time.UnixMicro(c.line[i].attempts[out.Attempt-1].position)); late > 5*time.Minute {
		w.t.Fatalf("%s is offered %s after its command", key, late)
	}
	w.called[key], w.taken[out.MessageID], c.maxCalled, c.calling = &call{out}, true, i, true
	defer func() { c.calling = false }()

	w.others()
	m.p.check()
	if w.chance("slow", 2) {
		select {
		case <-time.After(time.Duration(1+w.pick("seconds", 90)) * time.Second):
		case <-ctx.Done():
			return channel.Sent{}, ctx.Err()
		}
	}
	if w.calm {
		return channel.Sent{ExternalID: key}, nil
	}
	switch w.pick("answer", 8) {
	case 0:
		return channel.Sent{}, errors.New("connection reset")
	case 1:
		return channel.Sent{}, &channel.Error{Class: channel.ClassReject, Code: "no"}
	case 2:
		w.taken[out.MessageID] = false
		return channel.Sent{}, &channel.Error{Class: channel.ClassReauthorise, Code: "token"}
	case 3:
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "server"}
	case 4, 5:
		w.taken[out.MessageID] = false
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "busy", NotTaken: true, RetryAfter: time.Duration(w.pick("retry after", 5)) * time.Second}
	}
	return channel.Sent{ExternalID: key}, nil
}

// modelPublisher is both ways onto the inbound topic: acknowledged, lost, or landed with the
// acknowledgement lost.
type modelPublisher struct{ p *process }

func (m modelPublisher) publish(_ context.Context, events ...*pb.ChannelEvent) error {
	w := m.p.w
	w.others()
	m.p.check()
	lost := w.chance("publish lost", 3)
	if !lost {
		w.inbound = append(w.inbound, events...)
		for _, e := range events {
			w.published[e.GetId()] = true
		}
	}
	if lost || w.chance("publish's ack lost", 3) {
		return errors.New("no acknowledgement")
	}
	return nil
}

func (m modelPublisher) Report(ctx context.Context, event *pb.ChannelEvent) error {
	return m.publish(ctx, event)
}

type modelKeys struct{ p *process }

func (m modelKeys) Open(_ context.Context, _ pb.Purpose, parts []seal.Sealed) ([]seal.Opened, error) {
	m.p.w.others()
	m.p.check()
	if m.p.w.chance("registry away", 3) {
		return nil, seal.ErrUnavailable
	}
	opened := make([]seal.Opened, len(parts))
	if m.p.w.chance("gone", 5) {
		opened[0].Err = seal.ErrGone
	}
	return opened, nil
}

func (m modelKeys) Keys(context.Context, string, pb.Purpose, []string) (map[string]seal.Subject, map[string]error, error) {
	panic("not called")
}

type modelAccounts struct{}

func (modelAccounts) Connection(id string) (*pb.Connection, bool) {
	return &pb.Connection{Id: id, WorkspaceId: "w", Channel: "model", Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE}, true
}

func (modelAccounts) Confirm(context.Context, time.Time) error { return nil }

func (modelAccounts) Opened(_ context.Context, c *pb.Connection) (*channel.Connection, error) {
	return &channel.Connection{ID: c.GetId()}, nil
}
