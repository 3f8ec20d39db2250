package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"
)

// Publish writes the messages with acks=all and returns when all are acknowledged. On an error some may
// have landed, or may still land: whoever publishes again must be safe to be doubled. A message that is
// too large is left out, the others are written, and the error is ErrTooLarge.
func (b *Bus) Publish(ctx context.Context, msgs ...Message) error {
	return b.publish(ctx, MaxValueBytes, maxMessageBytes, msgs)
}

// publishDead takes whatever fits a batch: the record may have been published by others, and the
// letter adds headers to it.
func (b *Bus) publishDead(ctx context.Context, letter Message) error {
	return b.publish(ctx, MaxBatchBytes, MaxBatchBytes, []Message{letter})
}

func (b *Bus) publish(ctx context.Context, maxValue, maxSize int, msgs []Message) error {
	sound, tooLarge := msgs, error(nil)
	for i, m := range msgs {
		err := m.checkSize(maxValue, maxSize)
		switch {
		case err != nil && tooLarge == nil:
			sound, tooLarge = slices.Clone(msgs[:i]), fmt.Errorf("message %d: %w", i, err)
		case err != nil:
			tooLarge = errors.Join(tooLarge, fmt.Errorf("message %d: %w", i, err))
		case tooLarge != nil:
			sound = append(sound, m)
		}
	}
	if tooLarge != nil {
		b.metrics.publishFailed(ctx, msgs[0].Topic, len(msgs)-len(sound), tooLarge)
	}
	if len(sound) == 0 {
		return tooLarge
	}
	if err := b.publisher.publish(ctx, sound); err != nil {
		b.metrics.publishFailed(ctx, sound[0].Topic, len(sound), err)
		return fmt.Errorf("bus: publish to %s: %w", sound[0].Topic, err)
	}
	return tooLarge
}

// PartitionFor is the partition that Publish gives a key of topic.
func (b *Bus) PartitionFor(ctx context.Context, topic, key string) (int, error) {
	of, err := b.leaders(ctx, topic)
	if err != nil {
		return 0, err
	}
	return of.partition(key), nil
}

// PublishPartitions writes a batch to each of some partitions of a topic, those of a leader in one produce request
// where they have room in it. Each is acknowledged whole, in order, or not at all (or not known): failed names those that
// were not. It never retries. Topics of the messages are ignored. No batch may exceed MaxBatchBytes.
func (b *Bus) PublishPartitions(ctx context.Context, topic string, msgs map[int][]Message) (failed map[int]error) {
	var batches, sound []*batch
	for partition, of := range msgs {
		one := &batch{at: topicPartition{topic, partition}, msgs: make([]*outgoing, len(of))}
		for i, m := range of {
			one.size += m.Size()
			one.msgs[i] = &outgoing{Message: m}
		}
		if batches = append(batches, one); one.size > MaxBatchBytes {
			one.err = fmt.Errorf("%w: a batch of %d bytes", ErrTooLarge, one.size)
		} else {
			sound = append(sound, one)
		}
	}
	//bound:timeout the answers to batches for partitions | {} | their outcome is unknown; never tried again
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	b.publisher.send(ctx, sound)
	failed = map[int]error{}
	for _, one := range batches {
		if one.err == nil {
			b.metrics.published(ctx, topic, len(one.msgs))
			continue
		}
		b.afterFailure(one.err)
		b.metrics.publishFailed(ctx, topic, len(one.msgs), one.err)
		failed[one.at.partition] = fmt.Errorf("bus: publish to %s/%d: %w", topic, one.at.partition, one.err)
	}
	return failed
}

// afterFailure asks for the metadata anew where it may be what was wrong.
func (b *Bus) afterFailure(err error) {
	b.led.Clear()
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
