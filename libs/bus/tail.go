package bus

import (
	"context"
	"errors"

	"github.com/segmentio/kafka-go"
)

// Tail calls handle for every record published to topics after Tail was called, from all partitions,
// in no group: broadcast. handle is called from one goroutine, in order within a partition. A reader that
// fell behind the log's start goes on at the end, which is logged: a tail may miss what no broker holds.
// It returns when ctx ends.
func (b *Bus) Tail(ctx context.Context, topics []string, handle func(Record)) error {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for {
		spans, err := b.everywhere(ctx, topics)
		if err != nil {
			return nil
		}
		ends := make(map[topicPartition]int64, len(spans))
		for at, holds := range spans {
			ends[at] = holds.end
		}
		err = b.each(ctx, ends, func(f fetched) {
			for _, m := range f.msgs {
				handle(b.record(m))
			}
		})
		if !errors.Is(err, kafka.OffsetOutOfRange) {
			return nil
		}
		b.log.ErrorContext(ctx, "bus: tail fell behind the log's start and goes on at its end", "topics", topics)
	}
}

// each streams from the offsets given and calls handle, in this goroutine, for what comes.
func (b *Bus) each(ctx context.Context, from map[topicPartition]int64, handle func(fetched)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	//bound:queue what the readers of a Table or a tail have fetched | none: handed over | they wait
	out := make(chan fetched)
	//bound:exempt receives once
	ended := make(chan error, 1)
	//bound:exempt one a Table or tail, and its context ends it
	go func() { ended <- b.stream(ctx, from, out) }()
	for {
		select {
		case f := <-out:
			handle(f)
		case err := <-ended:
			return err
		}
	}
}
