package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	// A process may read hundreds of partitions, and all may be far behind: few of them at a time fetch much.
	//bound:queue records fetched ahead, of each of {aheadPartitions} partitions | {bytes} | the next fetch waits until they are taken
	aheadBytes = 4 << 20
	//bound:limit partitions that fetch far ahead, of a process | {} | the others fetch less
	aheadPartitions = 8
	//bound:queue records fetched, of each other partition | {bytes}, or one batch of the log's | the next fetch waits until they are taken
	fetchBytes = 128 << 10
	// fetchWait is how long a fetch waits at the end of a partition, and idleWait how long at most where nothing came the
	// last time. Long is nearly free, short is costly with many idle partitions; a new record ends the wait at once.
	// Idle waits are of idleKinds lengths, a second apart: hundreds that end together keep everybody else from the
	// brokers, and each that ends by itself wakes a processor.
	//bound:timeout a fetch at the end of a partition | {fetchWait}, {idleWait} at most where nothing came the last time | the next fetch
	fetchWait = 2 * time.Second
	idleWait  = 10 * time.Second
	idleKinds = 4
)

// reader reads one partition from an offset on, in no group. It is used by one goroutine.
type reader struct {
	b    *Bus
	at   topicPartition
	next int64
	// seen: every record below has been returned. It is next, or beyond where compaction left nothing
	// between next and the end.
	seen int64
	wait time.Duration // of the next fetch
	conn *kafka.Conn
	// behind: the last fetch left something. ahead: this one has a place among those that fetch far ahead.
	behind, ahead bool
	// blind: the last fetch was cut before the first record from next on. What compaction left of a batch lay before it.
	blind bool
}

func (b *Bus) newReader(at topicPartition, next int64) *reader {
	return &reader{b: b, at: at, next: next, seen: next, wait: fetchWait}
}

// fetch waits for records, idleWait at most; none is no error. kafka.OffsetOutOfRange: the partition
// does not hold next (any more, or yet). After any other error it may be called again.
func (r *reader) fetch(ctx context.Context) ([]kafka.Message, error) {
	r.leaveAhead() // what was fetched is taken
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	conn := r.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	msgs, err := r.fetchFrom(conn)
	if ctx.Err() != nil {
		r.close()
		return nil, ctx.Err()
	}
	if err != nil {
		r.close()
		if len(msgs) == 0 {
			r.b.afterFailure(err)
			return nil, fmt.Errorf("bus: read %s/%d at %d: %w", r.at.topic, r.at.partition, r.next, err)
		}
	}
	return msgs, nil
}

func (r *reader) connect(ctx context.Context) (err error) {
	if r.conn != nil {
		return nil
	}
	for _, broker := range r.b.cfg.Brokers {
		//bound:timeout finding and reaching a partition's leader | {} | the next broker is asked, then all again
		dial, cancel := context.WithTimeout(ctx, requestTimeout)
		r.conn, err = r.b.dialer.DialLeader(dial, "tcp", broker, r.b.fullName(r.at.topic), r.at.partition)
		cancel()
		if err == nil {
			return nil
		}
	}
	r.conn = nil
	return fmt.Errorf("bus: read %s/%d: %w", r.at.topic, r.at.partition, err)
}

func (r *reader) fetchFrom(conn *kafka.Conn) (msgs []kafka.Message, err error) {
	if _, err := conn.Seek(r.next, kafka.SeekAbsolute|kafka.SeekDontCheck); err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(r.wait + requestTimeout)); err != nil {
		return nil, err
	}
	most := fetchBytes
	if r.behind {
		select {
		case r.b.ahead <- struct{}{}:
			r.ahead, most = true, aheadBytes
		default:
		}
	}
	if r.blind {
		most = aheadBytes // which no batch fills
	}
	//bound:exempt aheadBytes and fetchBytes say it
	//bound:exempt fetchWait and idleWait say it
	batch := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: most, MaxWait: r.wait})
	r.wait = idleWait - time.Duration(r.at.partition%idleKinds)*time.Second
	for {
		m, err := batch.ReadMessage()
		if err != nil {
			break
		}
		msgs = append(msgs, m)
		r.next, r.wait = m.Offset+1, fetchWait
	}
	end := batch.HighWaterMark()
	err = batch.Close()
	if err != nil && !errors.Is(err, kafka.RequestTimedOut) { // which is how an empty batch ends
		r.seen = r.next
		return msgs, err
	}
	// Compaction may have left a hole that the batch reaches into.
	past := max(r.next, batch.Offset())
	if len(msgs) == 0 && past == r.next && end > r.next {
		if r.blind = most < aheadBytes; !r.blind {
			r.seen = end // nothing came, so nothing is left up to the end
		}
		return nil, nil
	}
	r.blind = false
	r.next, r.seen = past, past
	r.behind = end > past
	return msgs, nil
}

func (r *reader) leaveAhead() {
	if r.ahead {
		r.ahead = false
		<-r.b.ahead
	}
}

func (r *reader) close() {
	r.leaveAhead()
	r.wait, r.behind = fetchWait, false
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

// fetched is what stream hands over: records of one partition, and how far all have been seen.
type fetched struct {
	at   topicPartition
	msgs []kafka.Message
	seen int64
}

// stream reads partitions from the offsets given until ctx ends, in no group, and sends what it finds
// to out. Faults of the broker are waited out. It returns kafka.OffsetOutOfRange when a partition no
// longer holds what should be read next.
func (b *Bus) stream(ctx context.Context, from map[topicPartition]int64, out chan<- fetched) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	for at, next := range from {
		//bound:goroutines readers of a Table or a tail | one for each partition | all end together
		go func() {
			defer func() { ended <- struct{}{} }()
			if err := b.streamOne(ctx, at, next, out); err != nil {
				cancel(err)
			}
		}()
	}
	for range from {
		<-ended
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (b *Bus) streamOne(ctx context.Context, at topicPartition, next int64, out chan<- fetched) error {
	r := b.newReader(at, next)
	defer r.close()
	//bound:retry reading after a fault of the broker | after {$1}, growing to {$2} | goes on
	wait := pause(50*time.Millisecond, 2*time.Second)
	for {
		seen := r.seen
		msgs, err := r.fetch(ctx)
		if err != nil {
			if errors.Is(err, kafka.OffsetOutOfRange) {
				return err
			}
			if wait(ctx) != nil {
				return ctx.Err()
			}
			continue
		}
		//bound:retry reading after a fault of the broker | after {$1}, growing to {$2} | goes on
		wait = pause(50*time.Millisecond, 2*time.Second)
		if len(msgs) == 0 && r.seen == seen {
			continue
		}
		select {
		case out <- fetched{at, msgs, r.seen}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// everywhere gives all partitions of the topics and what they hold, waiting until that is known.
func (b *Bus) everywhere(ctx context.Context, topics []string) (map[topicPartition]span, error) {
	//bound:retry asking what a topic holds | after {$1}, growing to {$2} | goes on
	wait := pause(50*time.Millisecond, 2*time.Second)
	for {
		spans, err := b.spansOf(ctx, topics)
		if err == nil {
			return spans, nil
		}
		if wait(ctx) != nil {
			return nil, ctx.Err()
		}
	}
}

func (b *Bus) spansOf(ctx context.Context, topics []string) (map[topicPartition]span, error) {
	var all []topicPartition
	for _, topic := range topics {
		partitions, err := b.partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			all = append(all, topicPartition{topic, p})
		}
	}
	return b.spans(ctx, all)
}
