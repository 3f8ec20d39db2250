package bus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// TopicNames gives the names, without the prefix, of the topics that are there and begin with a word, sorted.
func (b *Bus) TopicNames(ctx context.Context, begin string) ([]string, error) {
	res, err := b.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, fmt.Errorf("bus: topics: %w", err)
	}
	var names []string
	for _, t := range res.Topics {
		if name, ours := strings.CutPrefix(t.Name, b.cfg.Prefix); ours && strings.HasPrefix(name, begin) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Scan calls handle for every record that topics hold as it begins and that was written at from or later and before to
// (a zero time bounds nothing): one partition after the other, in order within each, and in no group. It ends with the
// first fault of the broker, or error of handle.
func (b *Bus) Scan(ctx context.Context, topics []string, from, to time.Time, handle func(Record) error) error {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	spans, err := b.spansOf(ctx, topics)
	if err != nil {
		return err
	}
	for _, at := range slices.SortedFunc(maps.Keys(spans), func(x, y topicPartition) int {
		return cmp.Or(cmp.Compare(x.topic, y.topic), cmp.Compare(x.partition, y.partition))
	}) {
		holds := spans[at]
		if !from.IsZero() && holds.first < holds.end {
			if holds.first, err = b.offsetAt(ctx, at, from, holds.end); err != nil {
				return err
			}
		}
		if err := b.scanOne(ctx, at, holds, func(r Record) error {
			if r.Time.Before(from) || !to.IsZero() && !r.Time.Before(to) {
				return nil
			}
			return handle(r)
		}); err != nil {
			return err
		}
	}
	return nil
}

// offsetAt is the first offset of a record of that time or later; end where there is none.
func (b *Bus) offsetAt(ctx context.Context, at topicPartition, when time.Time, end int64) (int64, error) {
	res, err := b.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		b.fullName(at.topic): {kafka.TimeOffsetOf(at.partition, when)},
	}})
	if err != nil {
		return 0, fmt.Errorf("bus: offsets: %w", err)
	}
	first := end
	for _, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return 0, fmt.Errorf("bus: offsets of %s/%d: %w", at.topic, at.partition, p.Error)
			}
			for offset := range p.Offsets {
				if offset >= 0 {
					first = min(first, offset)
				}
			}
		}
	}
	return first, nil
}

func (b *Bus) scanOne(ctx context.Context, at topicPartition, holds span, handle func(Record) error) error {
	r := b.newReader(at, holds.first)
	defer r.close()
	for r.seen < holds.end {
		msgs, err := r.fetch(ctx)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Offset >= holds.end {
				return nil
			}
			if err := handle(b.record(m)); err != nil {
				return err
			}
		}
	}
	return nil
}
