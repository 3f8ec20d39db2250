package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Subscription handles topics in batches as a member of a consumer group. An offset is committed, soon, after
// Handle returned nil for everything below it.
type Subscription struct {
	// Group without the prefix.
	Group  string
	Topics []string
	// MaxBatch records are handed over at once; 0 is 500. All of one partition, in offset order.
	MaxBatch int
	// Handle must be safe to call for different partitions at once. An error wrapped with DataFault
	// means that these records can't be handled as they are: the batch is bisected and the one at fault
	// goes to dead.<topic>; so does one that Handle panics on. Any other error stops the partition and the
	// batch is tried again, for ever. When the partition is taken away ctx ends two seconds later, so that
	// a batch under way can be finished.
	Handle func(ctx context.Context, batch []Record) error
	// Dying, where there is one, is called before a record's dead letter is published, again until it succeeds:
	// what can't be handled may have to be remembered all the same.
	Dying func(ctx context.Context, r Record) error
}

const (
	//bound:queue records handed to a handler at once | {} | the others wait for the next batch
	defaultMaxBatch = 500
	// handlerGrace is what a handler under way is given when its partition is taken away: less than a
	// rebalance waits, more than a batch takes.
	//bound:timeout a handler whose partition is taken away | {} | its context ends, the batch comes again
	handlerGrace = 2 * time.Second
	// DeadRetention is how long dead letters are kept.
	DeadRetention  = 30 * 24 * time.Hour
	deadPartitions = 4
)

// DeadTopic is where records of topic go that cannot be handled.
func DeadTopic(topic string) string { return "dead." + topic }

// Headers of a dead letter, beside those of the record, which are kept as its key and value are.
const (
	HeaderDeadReason    = "dead_reason"
	HeaderDeadGroup     = "dead_group"
	HeaderDeadTopic     = "dead_topic"
	HeaderDeadPartition = "dead_partition"
	HeaderDeadOffset    = "dead_offset"
)

// Subscribe runs a subscription until ctx ends; faults of the broker are waited out. It creates the
// topics of its dead letters.
func (b *Bus) Subscribe(ctx context.Context, s Subscription) error {
	if s.MaxBatch == 0 {
		s.MaxBatch = defaultMaxBatch
	}
	if !b.ensureDeadTopics(ctx, s.Topics) {
		return nil
	}
	sub := &subscriber{b: b, Subscription: s}
	return b.Consume(ctx, s.Group, s.Topics, sub.run)
}

// ensureDeadTopics tries until the topics are there; it gives false when ctx ended first.
func (b *Bus) ensureDeadTopics(ctx context.Context, topics []string) bool {
	dead := make([]Topic, 0, len(topics))
	for _, topic := range topics {
		if !strings.HasPrefix(topic, DeadTopic("")) { // what dies again stays where it is
			dead = append(dead, Topic{Name: DeadTopic(topic), Partitions: min(deadPartitions, b.cfg.Partitions), Retention: DeadRetention})
		}
	}
	missing := slices.ContainsFunc(dead, func(t Topic) bool {
		_, err := b.partitions(ctx, t.Name)
		return err != nil
	})
	if !missing { // whoever keeps topics by hand need not let services create any
		return true
	}
	//bound:retry making topics for dead letters | after {$1}, growing to {$2} | goes on; nothing is handled before
	wait := pause(100*time.Millisecond, 5*time.Second)
	for {
		//bound:timeout making topics for dead letters | {} | tried again
		ensure, cancel := context.WithTimeout(ctx, 2*requestTimeout)
		err := b.EnsureTopics(ensure, dead...)
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			b.log.WarnContext(ctx, "bus: dead letter topics", "error", err)
		}
		if wait(ctx) != nil {
			return false
		}
	}
}

type subscriber struct {
	b *Bus
	Subscription
}

func (s *subscriber) run(ctx context.Context, p *Partition) {
	for {
		batch, err := p.Fetch(ctx, s.MaxBatch)
		if err != nil {
			return
		}
		if s.deliver(ctx, batch) != nil {
			return
		}
		p.of.commits.add(p, batch[len(batch)-1].Offset+1)
	}
}

// deliver returns nil once each record has been handled or is a dead letter; an error when ctx ended
// before.
func (s *subscriber) deliver(ctx context.Context, batch []Record) error {
	err := s.insist(ctx, batch)
	if err == nil {
		return nil
	}
	reason, fault := IsDataFault(err)
	switch {
	case !fault:
		return err
	case len(batch) == 1:
		return s.bury(ctx, batch[0], reason)
	}
	half := len(batch) / 2
	if err := s.deliver(ctx, batch[:half]); err != nil {
		return err
	}
	return s.deliver(ctx, batch[half:])
}

// insist calls the handler until it succeeds, the data is at fault or ctx ends.
func (s *subscriber) insist(ctx context.Context, batch []Record) error {
	var resume func()
	defer func() {
		if resume != nil {
			resume()
		}
	}()
	//bound:retry a handler that fails | after {$1}, growing to {$2} | goes on; the partition stands still, alarmed
	wait := pause(100*time.Millisecond, 10*time.Second)
	for {
		err := s.call(ctx, batch)
		if err == nil {
			return nil
		}
		if _, fault := IsDataFault(err); fault {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		first := batch[0]
		s.b.log.ErrorContext(ctx, "bus: partition stopped: its handler fails and is tried again",
			"group", s.Group, "topic", first.Topic, "partition", first.Partition, "offset", first.Offset, "records", len(batch), "error", err)
		if resume == nil {
			resume = s.b.metrics.stopped(first.Topic, s.Group, "handler")
		}
		if wait(ctx) != nil {
			return ctx.Err()
		}
	}
}

// call calls the handler once. A panic counts as a fault of the data: a poisonous record must not take
// the process down again and again. What it panicked with is not logged, it may quote the data.
func (s *subscriber) call(ctx context.Context, batch []Record) (err error) {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if sleep(handling, handlerGrace) == nil {
			cancel()
		}
	})
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			s.b.log.ErrorContext(ctx, "bus: handler panicked", "group", s.Group, "topic", batch[0].Topic, "partition", batch[0].Partition,
				"offset", batch[0].Offset, "records", len(batch), "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = DataFault("panic", errors.New("handler panicked"))
		}
	}()
	return s.Handle(handling, batch)
}

// bury publishes a dead letter, for as long as that takes: the partition stands still meanwhile.
func (s *subscriber) bury(ctx context.Context, r Record, reason string) error {
	letter := Message{Topic: DeadTopic(r.Topic), Key: r.Key, Value: r.Value}
	if strings.HasPrefix(r.Topic, DeadTopic("")) {
		letter.Topic = r.Topic
	}
	for _, h := range r.Headers {
		if !strings.HasPrefix(h.Key, "dead_") {
			letter.Headers = append(letter.Headers, h)
		}
	}
	for _, h := range [][2]string{
		{HeaderDeadReason, reason},
		{HeaderDeadGroup, s.Group},
		{HeaderDeadTopic, r.Topic},
		{HeaderDeadPartition, strconv.Itoa(r.Partition)},
		{HeaderDeadOffset, strconv.FormatInt(r.Offset, 10)},
	} {
		letter.Headers = append(letter.Headers, Header{h[0], []byte(h[1])})
	}
	var resume func()
	defer func() {
		if resume != nil {
			resume()
		}
	}()
	//bound:retry publishing a dead letter | after {$1}, growing to {$2} | goes on; the partition stands still, alarmed
	wait := pause(100*time.Millisecond, 10*time.Second)
	for {
		var err error
		if s.Dying != nil {
			err = s.Dying(ctx, r)
		}
		if err == nil {
			err = s.b.publishDead(ctx, letter)
		}
		if err == nil {
			s.b.metrics.died(ctx, r.Topic, reason)
			s.b.log.WarnContext(ctx, "bus: dead letter", "group", s.Group, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "reason", reason)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.b.log.ErrorContext(ctx, "bus: partition stopped: its dead letter cannot be published",
			"group", s.Group, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
		if resume == nil {
			resume = s.b.metrics.stopped(r.Topic, s.Group, "dead_letter")
		}
		if wait(ctx) != nil {
			return ctx.Err()
		}
	}
}
