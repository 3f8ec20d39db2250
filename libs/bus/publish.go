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
	one := &batch{at: topicPartition{topic, partition}, msgs: make([]*outgoing, len(msgs))}
	for i, m := range msgs {
		one.size += m.Size()
		one.msgs[i] = &outgoing{Message: m}
	}
	if one.size > MaxBatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes", ErrTooLarge, one.size)
	}
	//bound:timeout the answer to a batch for one partition | {} | its outcome is unknown; never tried again
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if b.publisher.request(ctx, []*batch{one}); one.err != nil {
		b.afterFailure(one.err)
	}
	return one.err
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
