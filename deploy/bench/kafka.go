package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// brokers is the bench's own way to the brokers, beside the mesh's.
type brokers struct {
	addresses []string
	transport *kafka.Transport
	client    *kafka.Client
}

func (e *env) brokers() *brokers {
	t := &kafka.Transport{DialTimeout: time.Second, MetadataTTL: 5 * time.Second}
	return &brokers{e.kafka, t, &kafka.Client{Addr: kafka.TCP(e.kafka...), Transport: t, Timeout: 10 * time.Second}}
}

func (b *brokers) close() { b.transport.CloseIdleConnections() }

// writer is a kafka-go Writer that promises what the mesh's publisher does, with its limits: the least that anybody who
// wants the same can do.
func (b *brokers) writer() *kafka.Writer {
	return &kafka.Writer{
		Addr: kafka.TCP(b.addresses...), Transport: b.transport, Balancer: kafka.Murmur2Balancer{Consistent: true},
		RequiredAcks: kafka.RequireAll, MaxAttempts: 2, BatchTimeout: time.Millisecond, BatchSize: 500, BatchBytes: 900 << 10,
		WriteTimeout: time.Second, ReadTimeout: time.Second, WriteBackoffMin: 20 * time.Millisecond, WriteBackoffMax: 100 * time.Millisecond,
	}
}

// ends are the end offsets of a topic's partitions.
func (b *brokers) ends(ctx context.Context, topic string) (map[int]int64, error) {
	meta, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err == nil {
		err = meta.Topics[0].Error
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", topic, err)
	}
	var asked []kafka.OffsetRequest
	for _, p := range meta.Topics[0].Partitions {
		asked = append(asked, kafka.LastOffsetOf(p.ID))
	}
	res, err := b.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asked}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", topic, err)
	}
	ends := map[int]int64{}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("%s/%d: %w", topic, p.Partition, p.Error)
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

// written is how many records a topic has been given.
func (b *brokers) written(ctx context.Context, topic string) (n int64, err error) {
	ends, err := b.ends(ctx, topic)
	for _, end := range ends {
		n += end
	}
	return n, err
}

// sample reads the first records of each partition of a topic, n of it at most.
func (b *brokers) sample(ctx context.Context, topic string, n int64) (records []kafka.Message, err error) {
	ends, err := b.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	for partition, end := range ends {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: b.addresses, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond})
		for range min(end, n) {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				return nil, errors.Join(err, r.Close())
			}
			records = append(records, m)
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s is empty", topic)
	}
	return records, nil
}

// mixed gives the keys of records, each once, in an order of chance that is the same each time. Records come partition by
// partition: written in their order, nearly all that is under way at once would be of one partition, and go to the broker in
// a few large batches where the mesh, whose people write in turn, needs many.
func mixed(records []kafka.Message) (keys []string) {
	seen := map[string]bool{}
	for _, m := range records {
		if key := string(m.Key); !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}
