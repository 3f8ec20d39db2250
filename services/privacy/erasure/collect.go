package erasure

import (
	"cmp"
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
	holders  func() []string
	now      func() time.Time
	patience time.Duration

	mu sync.Mutex
	//bound:queue questions to all holders that wait for answers | the sweep's one, and one each API request under way | each goes with its time-out
	waiting map[string]*collection // by request id
}

// collection is one question under way.
//
//bound:exempt one question
type collection struct {
	missing map[[2]string]bool // holder and subject
	stored  map[string]bool
	failed  bool
	done    chan struct{}
}

// errSilent: not every holder has answered in time; nothing is known.
var errSilent = errors.New("erasure: not every holder has answered")

// patience is how long holders may take to answer.
const patience = 30 * time.Second

// NewCollector makes one.
func NewCollector(b *bus.Bus, holders func() []string, now func() time.Time) *Collector {
	return &Collector{bus: b, holders: holders, now: now, patience: patience, waiting: map[string]*collection{}}
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
	commands := make([]*pb.PrivacyCommand, len(subjectIDs))
	for i, subject := range subjectIDs {
		commands[i] = &pb.PrivacyCommand{SubjectId: subject}
	}
	stored, failed, err := c.ask(ctx, commands)
	if err != nil {
		return nil, err
	}
	if failed {
		return nil, errSilent
	}
	return slices.DeleteFunc(slices.Clone(subjectIDs), func(id string) bool { return stored[id] }), nil
}

// Knows tells whether a holder has a contact, whatever has reached the topics. An error when that is not
// known.
func (c *Collector) Knows(ctx context.Context, workspaceID, contactID string) (bool, error) {
	stored, failed, err := c.ask(ctx, []*pb.PrivacyCommand{{WorkspaceId: workspaceID, ContactId: contactID}})
	if err == nil && !stored[""] && failed {
		err = errSilent
	}
	return stored[""], err
}

// ask puts questions to all holders, completing the commands. stored are the subjects that one of them
// stores anything of; failed: one could not say.
func (c *Collector) ask(ctx context.Context, commands []*pb.PrivacyCommand) (stored map[string]bool, failed bool, err error) {
	holders := c.holders()
	if len(holders) == 0 {
		return nil, false, errSilent
	}
	q := &collection{missing: map[[2]string]bool{}, stored: map[string]bool{}, done: make(chan struct{})}
	request := uuid.NewString()
	msgs := make([]bus.Message, len(commands))
	for i, command := range commands {
		for _, h := range holders {
			q.missing[[2]string{h, command.SubjectId}] = true
		}
		command.Id, command.Kind, command.RequestId = uuid.NewString(), pb.PrivacyCommand_KIND_COLLECT, request
		command.IssuedAtUs = c.now().UnixMicro()
		value, err := proto.Marshal(command)
		if err != nil {
			return nil, false, err
		}
		msgs[i] = bus.Message{Topic: "privacy.commands", Key: cmp.Or(command.SubjectId, command.ContactId), Value: value}
	}
	c.mu.Lock()
	c.waiting[request] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, request)
		c.mu.Unlock()
	}()
	//bound:timeout what holders answer | {patience} | nothing is known; asked again later
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.bus.Publish(ctx, msgs...); err != nil {
		return nil, false, err
	}
	select {
	case <-ctx.Done():
		return nil, false, errSilent
	case <-q.done:
	}
	return q.stored, q.failed, nil
}
