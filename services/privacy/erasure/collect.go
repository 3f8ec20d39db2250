package erasure

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Collector asks the holders what they store of subjects. Its Run must be running.
type Collector struct {
	bus interface {
		Publisher
		Tail(ctx context.Context, topics []string, handle func(bus.Record)) error
	}
	holders func() []string
	now     func() time.Time
	// patience is how long holders may take to answer.
	patience time.Duration

	mu      sync.Mutex
	waiting map[string]*collection // by request id
}

// collection is one question under way.
type collection struct {
	missing map[[2]string]bool // holder and subject
	stored  map[string]bool
	failed  bool
	done    chan struct{}
}

// errSilent: not every holder has answered in time; nothing is known.
var errSilent = errors.New("erasure: not every holder has answered")

// NewCollector makes one.
func NewCollector(b *bus.Bus, holders func() []string, now func() time.Time) *Collector {
	return &Collector{bus: b, holders: holders, now: now, patience: 30 * time.Second, waiting: map[string]*collection{}}
}

// Run listens to what holders answer until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	return c.bus.Tail(ctx, []string{"privacy.acks"}, func(r bus.Record) {
		var ack pb.PrivacyAck
		if proto.Unmarshal(r.Value, &ack) == nil && ack.Kind == pb.PrivacyCommand_KIND_COLLECT {
			c.take(&ack)
		}
	})
}

func (c *Collector) take(ack *pb.PrivacyAck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, ok := c.waiting[ack.RequestId]
	if !ok || !q.missing[[2]string{ack.Holder, ack.SubjectId}] {
		return
	}
	delete(q.missing, [2]string{ack.Holder, ack.SubjectId})
	q.failed = q.failed || ack.Failed != ""
	for _, n := range ack.Found {
		if n > 0 {
			q.stored[ack.SubjectId] = true
		}
	}
	if len(q.missing) == 0 {
		delete(c.waiting, ack.RequestId)
		close(q.done)
	}
}

// StoresNothing gives those of the subjects for which every holder has said, after it was asked, that it
// stores nothing. An error when one did not answer in time, or could not say.
func (c *Collector) StoresNothing(ctx context.Context, subjectIDs []string) ([]string, error) {
	holders := c.holders()
	if len(holders) == 0 {
		return nil, errSilent
	}
	q := &collection{missing: map[[2]string]bool{}, stored: map[string]bool{}, done: make(chan struct{})}
	request := uuid.NewString()
	msgs := make([]bus.Message, len(subjectIDs))
	for i, subject := range subjectIDs {
		for _, h := range holders {
			q.missing[[2]string{h, subject}] = true
		}
		value, err := proto.Marshal(&pb.PrivacyCommand{
			Id: uuid.NewString(), Kind: pb.PrivacyCommand_KIND_COLLECT, RequestId: request, SubjectId: subject, IssuedAtUs: c.now().UnixMicro(),
		})
		if err != nil {
			return nil, err
		}
		msgs[i] = bus.Message{Topic: "privacy.commands", Key: subject, Value: value}
	}
	c.mu.Lock()
	c.waiting[request] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, request)
		c.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.bus.Publish(ctx, msgs...); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, errSilent
	case <-q.done:
	}
	if q.failed {
		return nil, errSilent
	}
	return slices.DeleteFunc(slices.Clone(subjectIDs), func(id string) bool { return q.stored[id] }), nil
}
