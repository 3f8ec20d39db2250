package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// leadersKept is for how long the partitions of a topic are not asked for again. The client itself asks the
// brokers every few seconds, and after a failure at once.
const leadersKept = time.Second

// leadership is who leads a topic's partitions.
type leadership struct {
	asked      time.Time
	partitions []int
	leader     []int // broker ids; -1: nobody
}

// partition of a key: murmur2, as Java's client has it.
func (l *leadership) partition(key string) int {
	return balancer.Balance(kafka.Message{Key: []byte(key)}, l.partitions...)
}

// balancer decides a key's partition, for all that publish.
var balancer = kafka.Murmur2Balancer{Consistent: true}

// leaders of a topic's partitions.
func (b *Bus) leaders(ctx context.Context, topic string) (*leadership, error) {
	if kept, ok := b.led.Load(topic); ok && time.Since(kept.(*leadership).asked) < leadersKept {
		return kept.(*leadership), nil
	}
	res, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{b.fullName(topic)}})
	if err == nil {
		err = res.Topics[0].Error
	}
	if err == nil && len(res.Topics[0].Partitions) == 0 {
		err = kafka.UnknownTopicOrPartition
	}
	if err != nil {
		b.refresh()
		return nil, fmt.Errorf("bus: partitions of %s: %w", topic, err)
	}
	// The partitions of a topic are numbered from 0 without gaps.
	n := len(res.Topics[0].Partitions)
	l := &leadership{asked: time.Now(), partitions: make([]int, n), leader: make([]int, n)}
	for i := range n {
		l.partitions[i], l.leader[i] = i, -1
	}
	for _, p := range res.Topics[0].Partitions {
		if p.ID < 0 || p.ID >= n {
			return nil, fmt.Errorf("bus: partitions of %s: %w", topic, kafka.LeaderNotAvailable)
		}
		if p.Error == nil && p.Leader.Host != "" {
			l.leader[p.ID] = p.Leader.ID
		}
	}
	b.led.Store(topic, l)
	return l, nil
}
