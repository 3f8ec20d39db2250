package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	//bound:timeout a member that sends no heartbeat | {} | its partitions go to others
	sessionTimeout = 15 * time.Second
	//bound:timeout a commit | {} | its outcome is unknown: a subscription goes on, egress leaves the group
	commitTimeout = 3 * time.Second
	// maxMetadata is what brokers take by default.
	//bound:limit the metadata of a commit | {bytes} | the commit fails
	maxMetadata = 4096
	// recheck is how often a partition that stopped for its offset is looked at again.
	//bound:retry a partition whose next offset is not in the log | every {} | stands still, alarmed, and never resumes elsewhere
	recheck = 5 * time.Second
)

// Consume is the layer below Subscribe, for those who commit by themselves (egress): run is called in
// its own goroutine for each partition assigned, in each generation, and must return when ctx ends
// (after which Commit still works until run has returned). A run that returns before leaves its
// partition alone until the next generation (see Partition.Abandon). Consume returns when ctx ends;
// faults of the broker are waited out.
func (b *Bus) Consume(ctx context.Context, group string, topics []string, run func(ctx context.Context, p *Partition)) error {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := b.awaitTopics(ctx, topics); err != nil {
		return nil
	}
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = b.fullName(topic)
	}
	for ctx.Err() == nil {
		if err := b.join(ctx, group, names, run); err != nil {
			return err
		}
	}
	return nil
}

// join is one membership of a group: it ends with ctx, or when a partition is abandoned.
func (b *Bus) join(ctx context.Context, group string, names []string, run func(ctx context.Context, p *Partition)) error {
	members, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                b.fullName(group),
		Brokers:           b.cfg.Brokers,
		Dialer:            b.dialer,
		Topics:            names,
		HeartbeatInterval: b.cfg.Heartbeat,
		//bound:exempt sessionTimeout says it
		SessionTimeout: sessionTimeout,
		//bound:timeout members that are slow to join a generation | {} | the generation begins without them
		RebalanceTimeout: 10 * time.Second,
		//bound:retry joining a group after a failure | every {} | goes on until the process ends
		JoinGroupBackoff:      500 * time.Millisecond,
		WatchPartitionChanges: true,
		StartOffset:           kafka.FirstOffset,
	})
	if err != nil {
		return fmt.Errorf("bus: group %s: %w", group, err)
	}
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	// Leaving waits for a join under way, which can take as long as a rebalance.
	left := make(chan struct{})
	defer func() {
		//bound:goroutines who leaves a group | one a membership | ends with the answer or its time-out
		b.background(func() { defer close(left); _ = members.Close() })
		select {
		case <-left:
		//bound:timeout leaving a group | {} | left in the background
		case <-time.After(requestTimeout):
		}
	}()
	//bound:retry joining where generations end at once | after {$1}, growing to {$2} | goes on until the process ends
	wait := pause(10*time.Millisecond, time.Second)
	for {
		asked := time.Now()
		generation, err := members.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			b.logGroupError(ctx, group, err)
			continue
		}
		b.metrics.rebalanced(ctx, group)
		g := &generationOf{b: b, group: group, generation: generation, run: run, abandon: abandon, commits: newCommits()}
		// The only function of the generation: it blocks until the generation ends, since one that returns
		// would end it.
		//bound:exempt one a generation, and ends with it
		generation.Start(func(ended context.Context) { g.work(ctx, ended) })
		// Where generations end as soon as they begin (a topic was deleted), not to join without a pause.
		if time.Since(asked) > time.Second {
			//bound:retry joining where generations end at once | after {$1}, growing to {$2} | goes on until the process ends
			wait = pause(10*time.Millisecond, time.Second)
		} else if wait(ctx) != nil {
			return nil
		}
	}
}

// logGroupError is quiet about what every first join of a new cluster and every restart meets.
func (b *Bus) logGroupError(ctx context.Context, group string, err error) {
	for _, passing := range []kafka.Error{kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.GroupLoadInProgress, kafka.RebalanceInProgress, kafka.UnknownMemberId, kafka.IllegalGeneration} {
		if errors.Is(err, passing) {
			b.log.DebugContext(ctx, "bus: joining", "group", group, "error", err)
			return
		}
	}
	b.log.WarnContext(ctx, "bus: cannot join", "group", group, "error", err)
}

// generationOf is one generation of a group, as this member sees it.
type generationOf struct {
	b          *Bus
	group      string
	generation *kafka.Generation
	run        func(ctx context.Context, p *Partition)
	abandon    func()
	commits    *commits
}

// work runs the assigned partitions until the generation or ctx ends. It returns only when the generation
// has ended: else a member about to leave would join the next one first.
func (g *generationOf) work(ctx context.Context, ended context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ended, cancel)
	defer stop()

	var assigned []topicPartition
	for topic, partitions := range g.generation.Assignments {
		for _, p := range partitions {
			assigned = append(assigned, topicPartition{g.b.shortName(topic), p.ID})
		}
	}
	commits := make(chan struct{})
	//bound:goroutines who commits what a group's subscription has handled | one a generation | ends with its partitions
	go func() { defer close(commits); g.keepCommitting(ctx) }()
	var running sync.WaitGroup
	if positions, err := g.await(ctx, assigned); err == nil {
		for _, at := range assigned {
			//bound:goroutines partitions of a group | as many as are assigned | each ends with its generation
			running.Go(func() { g.runPartition(ctx, at, positions[at]) })
		}
	}
	<-ctx.Done()
	running.Wait()
	g.commits.end()
	<-commits
	<-ended.Done()
}

// position is where a group stands in a partition.
type position struct {
	committed int64 // -1: never
	metadata  string
	holds     span
}

func (p position) start() int64 {
	if p.committed < 0 {
		return p.holds.first
	}
	return p.committed
}

// lost: what should be read next is not there. Below the start it has expired or was deleted; above the
// end the partition has lost records, or its new leader does not know yet that they are committed.
func (p position) lost() bool { return p.start() < p.holds.first || p.start() > p.holds.end }

func (g *generationOf) await(ctx context.Context, of []topicPartition) (map[topicPartition]position, error) {
	//bound:retry asking where a group stands | after {$1}, growing to {$2} | goes on until the generation ends
	wait := pause(20*time.Millisecond, 2*time.Second)
	for {
		positions, err := g.positions(ctx, of)
		if err == nil {
			return positions, nil
		}
		if wait(ctx) != nil {
			return nil, ctx.Err()
		}
		g.b.log.DebugContext(ctx, "bus: positions", "group", g.group, "error", err)
	}
}

func (g *generationOf) positions(ctx context.Context, of []topicPartition) (map[topicPartition]position, error) {
	if len(of) == 0 {
		return nil, nil
	}
	req := &kafka.OffsetFetchRequest{GroupID: g.b.fullName(g.group), Topics: map[string][]int{}}
	for _, at := range of {
		name := g.b.fullName(at.topic)
		req.Topics[name] = append(req.Topics[name], at.partition)
	}
	// The commits first: the log's end may only have grown since, and its start was checked later.
	res, err := g.b.client.OffsetFetch(ctx, req)
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("bus: committed offsets: %w", err)
	}
	spans, err := g.b.spans(ctx, of)
	if err != nil {
		return nil, err
	}
	positions := make(map[topicPartition]position, len(of))
	for topic, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, fmt.Errorf("bus: committed offsets: %w", p.Error)
			}
			at := topicPartition{g.b.shortName(topic), p.Partition}
			positions[at] = position{p.CommittedOffset, p.Metadata, spans[at]}
		}
	}
	for _, at := range of {
		if _, ok := positions[at]; !ok {
			return nil, fmt.Errorf("bus: committed offsets: no answer for %s/%d", at.topic, at.partition)
		}
	}
	return positions, nil
}

func (g *generationOf) runPartition(ctx context.Context, at topicPartition, pos position) {
	for pos.lost() {
		resume := g.stopped(ctx, at, pos.start(), pos.holds)
		if sleep(ctx, recheck) != nil {
			resume()
			return
		}
		if again, err := g.positions(ctx, []topicPartition{at}); err == nil {
			pos = again[at]
		}
		resume()
	}
	p := &Partition{Topic: at.topic, Partition: at.partition, Metadata: pos.metadata, Next: pos.start(), of: g, reader: g.b.newReader(at, pos.start())}
	p.committed.Store(pos.start())
	defer p.reader.close()
	defer g.b.metrics.watch(g.group, p)()
	g.run(ctx, p)
}

// stopped raises the alarm for a partition whose next offset is not there, until resume is called.
func (g *generationOf) stopped(ctx context.Context, at topicPartition, next int64, holds span) (resume func()) {
	g.b.log.ErrorContext(ctx, "bus: partition stopped: the offset to go on from is not in the log",
		"group", g.group, "topic", at.topic, "partition", at.partition, "next", next, "log_start", holds.first, "log_end", holds.end)
	return g.b.metrics.stopped(at.topic, g.group, "offset")
}

// Partition is one assigned partition within one generation of a group. Fetch is for one goroutine;
// Commit is safe for several.
type Partition struct {
	Topic     string
	Partition int
	// Metadata of the last commit, as found when the partition was assigned; "" where none.
	Metadata string
	// Next is the offset that will be read first.
	Next int64

	of        *generationOf
	reader    *reader
	pending   []kafka.Message
	committed atomic.Int64
}

// Fetch waits for records from Next on and returns at most max of them, advancing Next. Faults of the
// broker are waited out: an error means that ctx has ended. Where the log no longer holds Next it raises
// the alarm and waits: it never resumes elsewhere.
func (p *Partition) Fetch(ctx context.Context, max int) ([]Record, error) {
	//bound:retry reading after a fault of the broker | after {$1}, growing to {$2} | goes on
	wait := pause(50*time.Millisecond, 2*time.Second)
	for len(p.pending) == 0 {
		msgs, err := p.reader.fetch(ctx)
		switch {
		case err == nil:
			p.pending, p.Next = msgs, p.reader.next
		case errors.Is(err, kafka.OffsetOutOfRange):
			if err := p.outOfRange(ctx); err != nil {
				return nil, err
			}
		default:
			p.of.b.log.DebugContext(ctx, "bus: reading", "group", p.of.group, "error", err)
			if wait(ctx) != nil {
				return nil, ctx.Err()
			}
		}
	}
	n := min(max, len(p.pending))
	records := make([]Record, n)
	for i, m := range p.pending[:n] {
		records[i] = p.of.b.record(m)
	}
	p.pending = p.pending[n:]
	p.Next = p.reader.next
	if len(p.pending) > 0 {
		p.Next = p.pending[0].Offset
	}
	return records, nil
}

// outOfRange waits for as long as the partition does not hold Next. A new leader that has not heard yet
// how far records are committed comes round; an offset that has expired does not.
func (p *Partition) outOfRange(ctx context.Context) error {
	at := topicPartition{p.Topic, p.Partition}
	holds, err := p.of.b.spans(ctx, []topicPartition{at})
	if err != nil {
		return sleep(ctx, time.Second)
	}
	if (position{committed: p.Next, holds: holds[at]}).lost() {
		defer p.of.stopped(ctx, at, p.Next, holds[at])()
	}
	return sleep(ctx, recheck)
}

// Commit commits next (the offset to resume at) with metadata (at most 4 KiB) for this generation. It
// has a deadline of its own, 3 s, and is not cut short by the end of ctx, which would leave its outcome
// open. ErrStaleGeneration when refused; any other error means that the outcome is not known.
func (p *Partition) Commit(ctx context.Context, next int64, metadata string) error {
	if len(metadata) > maxMetadata {
		return fmt.Errorf("bus: commit: %d bytes of metadata, at most %d are kept", len(metadata), maxMetadata)
	}
	return p.of.commit(ctx, map[*Partition]int64{p: next}, metadata)
}

// commit commits the next offsets of partitions in one request, as Commit does of one.
func (g *generationOf) commit(ctx context.Context, next map[*Partition]int64, metadata string) error {
	//bound:exempt commitTimeout says it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	//bound:retry a commit that was surely not taken | after {$1}, growing to {$2} | within the time-out of the commit
	wait := pause(20*time.Millisecond, 200*time.Millisecond)
	for {
		err := g.tryCommit(ctx, next, metadata)
		switch {
		case err == nil:
			for p, offset := range next {
				p.committed.Store(offset)
			}
			return nil
		case isAny(err, kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.RebalanceInProgress, kafka.FencedInstanceID):
			return ErrStaleGeneration
		case isAny(err, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.GroupLoadInProgress):
			// Surely not taken: ask again who the coordinator is.
			if wait(ctx) == nil {
				continue
			}
		}
		return fmt.Errorf("bus: commit: %w", err)
	}
}

// Abandon ends this membership: all its partitions are given back, and the process joins the group anew,
// under another name and so in another generation. For those who must not have a commit land late: one
// whose answer was lost is refused once the member that sent it has left, even if it is still on its way,
// and so can't move back what was committed after it.
func (p *Partition) Abandon() { p.of.abandon() }

func (g *generationOf) tryCommit(ctx context.Context, next map[*Partition]int64, metadata string) error {
	req := &kafka.OffsetCommitRequest{GroupID: g.b.fullName(g.group), GenerationID: int(g.generation.ID), MemberID: g.generation.MemberID,
		Topics: map[string][]kafka.OffsetCommit{}}
	for p, offset := range next {
		topic := g.b.fullName(p.Topic)
		req.Topics[topic] = append(req.Topics[topic], kafka.OffsetCommit{Partition: p.Partition, Offset: offset, Metadata: metadata})
	}
	res, err := g.b.client.OffsetCommit(ctx, req)
	if err != nil {
		return err
	}
	answered := 0
	for _, partitions := range res.Topics {
		for _, answer := range partitions {
			if answer.Error != nil {
				return answer.Error
			}
			answered++
		}
	}
	if answered < len(next) {
		return errors.New("the broker's answer leaves a partition out")
	}
	return nil
}

func isAny(err error, codes ...kafka.Error) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
