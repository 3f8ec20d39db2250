package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Publish writes the messages with acks=all and returns when all are acknowledged. On an error some may
// have landed, or may still land: whoever publishes again must be safe to be doubled. A message that is
// too large is left out, the others are written, and the error is ErrTooLarge.
func (b *Bus) Publish(ctx context.Context, msgs ...Message) error {
	return b.publish(ctx, MaxValueBytes, maxMessageBytes, msgs)
}

// publishDead takes whatever the Writer takes: the record may have been published by others, and the
// letter adds headers to it.
func (b *Bus) publishDead(ctx context.Context, letter Message) error {
	return b.publish(ctx, MaxBatchBytes, MaxBatchBytes, []Message{letter})
}

func (b *Bus) publish(ctx context.Context, maxValue, maxSize int, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	flight := &flight{}
	out := make([]kafka.Message, 0, len(msgs))
	var size int64
	var tooLarge error
	for i, m := range msgs {
		if err := m.checkSize(maxValue, maxSize); err != nil {
			tooLarge = errors.Join(tooLarge, fmt.Errorf("message %d: %w", i, err))
			continue
		}
		size += int64(m.Size())
		out = append(out, b.outgoing(m, flight))
	}
	if len(out) == 0 {
		b.metrics.publishFailed(ctx, msgs[0].Topic, len(msgs), tooLarge)
		return tooLarge
	}
	if err := b.write(ctx, flight, out, size); err != nil {
		b.metrics.publishFailed(ctx, msgs[0].Topic, len(msgs), err)
		return err
	}
	if tooLarge != nil {
		b.metrics.publishFailed(ctx, msgs[0].Topic, len(msgs)-len(out), tooLarge)
	}
	return tooLarge
}

// PartitionFor is the partition that Publish gives a key of topic.
func (b *Bus) PartitionFor(ctx context.Context, topic, key string) (int, error) {
	partitions, err := b.partitions(ctx, topic)
	if err != nil {
		return 0, err
	}
	return balancer.Balance(kafka.Message{Key: []byte(key)}, partitions...), nil
}

// PublishPartition writes one batch to one partition in one produce request: acknowledged whole, in
// order, or not at all (or not known). It never retries. Topics of the messages are ignored. The batch
// must not exceed MaxBatchBytes.
func (b *Bus) PublishPartition(ctx context.Context, topic string, partition int, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	err := b.produce(ctx, topic, partition, msgs)
	if err != nil {
		b.metrics.publishFailed(ctx, topic, len(msgs), err)
		return fmt.Errorf("bus: publish to %s/%d: %w", topic, partition, err)
	}
	b.metrics.published(ctx, topic, len(msgs))
	return nil
}

func (b *Bus) produce(ctx context.Context, topic string, partition int, msgs []Message) error {
	records, now := make([]kafka.Record, len(msgs)), b.cfg.Now()
	var size int
	for i, m := range msgs {
		size += m.Size()
		records[i] = kafka.Record{Time: now, Key: kafka.NewBytes([]byte(m.Key)), Value: kafka.NewBytes(m.Value), Headers: headers(m)}
	}
	if size > MaxBatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes", ErrTooLarge, size)
	}
	res, err := b.client.Produce(ctx, &kafka.ProduceRequest{
		Topic:        b.fullName(topic),
		Partition:    partition,
		RequiredAcks: kafka.RequireAll,
		Records:      kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		b.afterFailure(err)
	}
	return err
}

// balancer is the Writer's, and PartitionFor's.
var balancer = kafka.Murmur2Balancer{Consistent: true}

// flight follows one call of Publish through the Writer, which tells by no other means whether messages
// were queued when it returned an error: they are once each has been given its partition.
type flight struct{ assigned int }

// passenger is the Writer's data of each message.
type passenger struct {
	flight *flight
	size   int64
}

type countingBalancer struct{}

func (countingBalancer) Balance(m kafka.Message, partitions ...int) int {
	m.WriterData.(passenger).flight.assigned++
	return balancer.Balance(m, partitions...)
}

func (b *Bus) newWriter() *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(b.cfg.Brokers...),
		Transport:    b.transport,
		Balancer:     countingBalancer{},
		RequiredAcks: kafka.RequireAll,
		//bound:retry writing a batch | {} attempts | given up: Publish fails
		MaxAttempts: 2,
		//bound:retry writing a batch: the pause | at least {} | tried again
		WriteBackoffMin: 20 * time.Millisecond,
		//bound:retry writing a batch: the pause | at most {} | tried again
		WriteBackoffMax: 100 * time.Millisecond,
		//bound:queue messages of a batch | {} | it leaves at once
		BatchSize: 500,
		//bound:queue bytes of a batch | {bytes} | it leaves at once
		BatchBytes: MaxBatchBytes,
		//bound:timeout a batch that waits for more messages | {} | it leaves
		BatchTimeout: time.Millisecond,
		//bound:timeout the answer to a batch | {} | tried again, or its outcome is unknown
		ReadTimeout: time.Second,
		//bound:timeout sending a batch | {} | tried again
		WriteTimeout: time.Second,
		Completion:   b.completed,
	}
}

func (b *Bus) write(ctx context.Context, f *flight, msgs []kafka.Message, size int64) error {
	if b.inFlight.Add(size) > b.cfg.MaxInFlightBytes {
		b.inFlight.Add(-size)
		return ErrFull
	}
	err := b.writer.WriteMessages(ctx, msgs...)
	if err == nil {
		return nil
	}
	if f.assigned < len(msgs) { // nothing was queued, so nothing will be completed
		b.inFlight.Add(-size)
	}
	var perMessage kafka.WriteErrors
	if errors.As(err, &perMessage) {
		for _, e := range perMessage {
			if e != nil {
				err = e
				break
			}
		}
	}
	b.afterFailure(err)
	return fmt.Errorf("bus: publish to %s: %w", b.shortName(msgs[0].Topic), err)
}

// completed is called by the Writer once a batch is acknowledged or given up, long after Publish
// returned perhaps: only then does the Writer let go of its memory.
func (b *Bus) completed(msgs []kafka.Message, err error) {
	for _, m := range msgs {
		b.inFlight.Add(-m.WriterData.(passenger).size)
	}
	if err == nil && len(msgs) > 0 {
		b.metrics.published(b.ctx, b.shortName(msgs[0].Topic), len(msgs))
	}
}

// afterFailure asks for the metadata anew where it may be what was wrong.
func (b *Bus) afterFailure(err error) {
	for _, stale := range []kafka.Error{kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition, kafka.BrokerNotAvailable} {
		if errors.Is(err, stale) {
			b.refresh()
			return
		}
	}
}

func (m Message) checkSize(maxValue, maxSize int) error {
	if len(m.Value) > maxValue || m.Size() > maxSize {
		return fmt.Errorf("%w: %d bytes for %s", ErrTooLarge, m.Size(), m.Topic)
	}
	return nil
}

func (b *Bus) outgoing(m Message, f *flight) kafka.Message {
	return kafka.Message{
		Topic: b.fullName(m.Topic), Key: []byte(m.Key), Value: m.Value, Headers: headers(m), Time: b.cfg.Now(),
		WriterData: passenger{f, int64(m.Size())},
	}
}

func headers(m Message) []kafka.Header {
	if len(m.Headers) == 0 {
		return nil
	}
	out := make([]kafka.Header, len(m.Headers))
	for i, h := range m.Headers {
		out[i] = kafka.Header(h)
	}
	return out
}
