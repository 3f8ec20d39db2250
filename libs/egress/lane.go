package egress

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// lane takes the commands of one partition within one generation: everything up to and including the
// commit. It belongs to one goroutine and ends with the first commit that is not known to have succeeded.
type lane struct {
	s         *sender
	topic     string
	partition int
	// last is the highest position taken: by this lane, or by whoever committed before it.
	last int64
}

// partition is what a lane needs of bus.Partition.
type partition interface {
	Fetch(ctx context.Context, max int) ([]bus.Record, error)
	Commit(ctx context.Context, next int64, metadata string) error
	Abandon()
}

// taken is one record on its way through a lane.
type taken struct {
	// cmd is nil where the record is passed over: its offset is committed, and that is all.
	cmd *pb.Command
	// next is the offset to go on from once this record is committed, position what its commit carries.
	next, position int64
	trace          trace.SpanContext

	// out is what is sent, opened then, and due at the earliest.
	out     *channel.Outgoing
	opened  time.Time
	paceKey string
	due     time.Time
	// seated and slot: what it holds of its connection's and of the process's bounds.
	seated, slot bool

	// verdict is the outcome where it is known without a call.
	verdict *pb.Receipt
}

// batch is how many records are opened at once.
//
//bound:queue commands of one partition that are opened at once | {} | the others wait in the topic
const batch = 64

func newLane(s *sender, topic string, partition int, metadata string) *lane {
	l := &lane{s: s, topic: topic, partition: partition}
	position, err := parseMetadata(metadata)
	if err != nil {
		// Somebody else's commit. Without a position nothing is dropped; what is old is deferred.
		s.log.Error("egress: a commit's metadata can't be read", "topic", topic, "partition", partition)
	}
	l.last = position
	return l
}

// run works until ctx ends or a commit is not known to have succeeded.
func (l *lane) run(ctx context.Context, p partition) {
	for {
		records, err := p.Fetch(ctx, batch)
		if err != nil {
			return
		}
		waiting, err := l.prepare(ctx, records)
		for err == nil && len(waiting) > 0 {
			waiting, err = l.take(ctx, p, waiting)
		}
		if err != nil {
			l.s.abandon(waiting)
			return
		}
	}
}

// take gets the first of those waiting committed and started, with those that can go at the same time, and
// gives the others.
func (l *lane) take(ctx context.Context, p partition, waiting []*taken) ([]*taken, error) {
	group, rest, err := l.gather(ctx, waiting)
	if err != nil {
		return waiting, err
	}
	if len(group) == 0 {
		return waiting, l.s.awaitSlot(ctx, waiting[0])
	}
	if err := l.announce(ctx, group); err != nil {
		return waiting, err
	}
	if err := l.commit(ctx, p, group); err != nil {
		return waiting, err
	}
	l.s.start(group)
	return rest, nil
}

// prepare decodes, drops, opens and paces. It waits for the registry and for what is known of
// connections; an error means that ctx has ended.
func (l *lane) prepare(ctx context.Context, records []bus.Record) ([]*taken, error) {
	all := make([]*taken, 0, len(records))
	var open []*taken
	for _, r := range records {
		t, err := l.sift(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		if t.cmd != nil {
			open = append(open, t)
		}
	}
	if err := l.s.open(ctx, open); err != nil {
		return nil, err
	}
	for _, t := range open {
		l.s.admit(t)
	}
	return all, nil
}

// sift decodes a record and decides whether it is taken.
func (l *lane) sift(ctx context.Context, r bus.Record) (*taken, error) {
	t := &taken{next: r.Offset + 1, position: l.last}
	cmd := &pb.Command{}
	if err := proto.Unmarshal(r.Value, cmd); err != nil || cmd.GetId() == "" || cmd.GetPosition() <= 0 {
		l.s.meters.dropped(ctx, "unreadable")
		return t, l.s.bury(ctx, r)
	}
	if cmd.GetPosition() <= l.last {
		l.s.meters.dropped(ctx, "position")
		return t, nil
	}
	l.last = cmd.GetPosition()
	t.cmd, t.position = cmd, cmd.GetPosition()
	t.trace = trace.SpanContextFromContext(telemetry.Extract(context.WithoutCancel(ctx), r.Headers))
	return t, nil
}

// gather waits until the first of those waiting is due, and gives it together with those that can go at
// the same time; none where no slot is free for the first. Slots are taken before anything is announced,
// so that what is committed is called at once: the shorter that is, the less ends as unknown when the
// process is killed.
func (l *lane) gather(ctx context.Context, waiting []*taken) (group, rest []*taken, err error) {
	for i, t := range waiting {
		if t.cmd == nil {
			continue
		}
		if t.verdict == nil {
			wait := t.due.Sub(l.s.clock.Now())
			if wait > 0 && i > 0 {
				return waiting[:i], waiting[i:], nil
			}
			if wait > 0 {
				l.s.meters.paced(ctx, wait)
				if err := l.s.sleep(ctx, wait); err != nil {
					return nil, waiting, err
				}
			}
		}
		if !t.slot && !l.s.trySlot(t) {
			return waiting[:i], waiting[i:], nil
		}
	}
	return waiting, nil, nil
}

// announce publishes `sending` for every command of the group, for as long as that takes.
func (l *lane) announce(ctx context.Context, group []*taken) error {
	var events []*pb.ChannelEvent
	for _, t := range group {
		if t.cmd != nil {
			events = append(events, l.s.receipt(t.cmd, &pb.Receipt{Status: pb.Status_STATUS_SENDING}))
		}
	}
	if len(events) == 0 {
		return ctx.Err()
	}
	if len(group) == 1 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, group[0].trace)
	}
	return l.s.insist(ctx, "sending", func() error { return l.s.publisher.publish(ctx, events...) })
}

// errNotCommitted: whether the group is ours is not known, or known not to be so.
var errNotCommitted = errors.New("egress: not committed")

// commit commits offset and position of the group's last. Only nil means that the group is ours to carry
// out. It is tried once, and the membership ends with a lost answer: such a commit may still land, and must
// not land after a later one.
func (l *lane) commit(ctx context.Context, p partition, group []*taken) error {
	last := group[len(group)-1]
	err := p.Commit(ctx, last.next, formatMetadata(last.position))
	if err == nil {
		return nil
	}
	if !errors.Is(err, bus.ErrStaleGeneration) {
		p.Abandon()
		l.s.log.WarnContext(ctx, "egress: a commit's outcome is not known", "topic", l.topic, "partition", l.partition, "commands", len(group), "error", err)
	}
	return errNotCommitted
}

// The metadata of a commit: a version, and the highest position taken below the offset.
const metadataVersion = "position/1 "

func formatMetadata(position int64) string {
	return metadataVersion + strconv.FormatInt(position, 10)
}

func parseMetadata(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number, ok := strings.CutPrefix(s, metadataVersion)
	if !ok {
		return 0, errors.New("egress: metadata of another kind")
	}
	return strconv.ParseInt(number, 10, 64)
}
