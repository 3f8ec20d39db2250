package relay

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Bounds of one look at a topic, in rows and in entries, and of one call of the broker.
const (
	//bound:queue outbox rows of a topic that are looked at at once | {} | the others wait in the database
	topicRows = 1000
	//bound:queue entries of a topic that are published at once | {}, or one row | the others wait in the database
	topicEntries = 2000
	//bound:queue entries of a partition in one call of the broker | {} | the next call
	batchEntries = 500
)

// row of the outbox that has a position.
type row struct {
	id        string
	createdUS int64
	entries   []store.Placed
	// acknowledged by entry.
	acknowledged []bool
}

// entry of a row.
type entry struct {
	*row
	at int
}

// publishTopic publishes what waits of one topic, of all its partitions at once. partly is what was
// acknowledged before of rows that are to be gone on with, and what is now. full: there may be more.
func (r *Relay) publishTopic(ctx context.Context, topic string, partly map[string][]bool) (_ map[string][]bool, full bool, err error) {
	rows, full, err := r.waiting(ctx, topic)
	if err != nil {
		return partly, false, err
	}
	partitions := map[int][]entry{}
	for _, w := range rows {
		if w.acknowledged = partly[w.id]; w.acknowledged == nil {
			w.acknowledged = make([]bool, len(w.entries))
		}
		for i, e := range w.entries {
			if w.acknowledged[i] {
				continue
			}
			p, err := r.bus.PartitionFor(ctx, topic, e.GetKey())
			if err != nil {
				return partly, false, err
			}
			partitions[p] = append(partitions[p], entry{w, i})
		}
	}
	acknowledged, err := r.publishPartitions(ctx, topic, partitions)
	faults := []error{err}
	for _, e := range acknowledged {
		e.acknowledged[e.at] = true
	}
	var done []string
	partly = map[string][]bool{}
	for _, w := range rows {
		if slices.Contains(w.acknowledged, false) {
			partly[w.id] = w.acknowledged
		} else {
			done = append(done, w.id)
		}
	}
	faults = append(faults, r.mark(ctx, done))
	r.published.Add(ctx, int64(len(acknowledged)), metric.WithAttributes(attribute.String("topic", topic)))
	return partly, full, errors.Join(faults...)
}

// waiting are the first rows of a topic that wait to be published, at least one and otherwise no more than
// topicEntries entries.
func (r *Relay) waiting(ctx context.Context, topic string) (rows []*row, full bool, err error) {
	const waits = " FROM outbox WHERE topic = $1 AND published_us IS NULL AND position IS NOT NULL"
	err = r.db.View(ctx, func(tx *sqldb.Tx) error {
		rows = nil
		seen, entries, last := 0, 0, int64(0)
		if err := sqldb.Query(ctx, tx, "SELECT position, entries"+waits+" ORDER BY position LIMIT $2", []any{topic, topicRows}, func(found sqldb.Row) error {
			var position int64
			var count int
			err := found.Scan(&position, &count)
			if entries += count; seen == 0 || entries <= topicEntries {
				last = position
			}
			seen++
			return err
		}); err != nil || seen == 0 {
			return err
		}
		full = seen == topicRows || entries > topicEntries
		return sqldb.Query(ctx, tx, "SELECT id, message_key, type, traceparent, payload, position, created_us, entries"+waits+
			" AND position <= $2 ORDER BY position", []any{topic, last}, func(found sqldb.Row) error {
			var position int64
			var count int
			w, e := &row{}, &pb.OutboxEntries_Entry{}
			if err := found.Scan(&e.Id, &e.Key, &e.Type, &e.Traceparent, &e.Payload, &position, &w.createdUS, &count); err != nil {
				return err
			}
			var err error
			w.id, rows = e.Id, append(rows, w)
			w.entries, err = store.Entries(count, position, e)
			return err
		})
	})
	return rows, full, err
}

// publishPartitions publishes entries in batches, one of each partition at a time, and stops in each at the first that
// is not acknowledged.
func (r *Relay) publishPartitions(ctx context.Context, topic string, waiting map[int][]entry) (done []entry, err error) {
	//bound:exempt one a partition
	var faults []error
	for len(waiting) > 0 {
		batches := make(map[int][]bus.Message, len(waiting))
		for p, entries := range waiting {
			batches[p] = batch(topic, entries)
		}
		//bound:timeout one call of the broker for the outbox | {} | published again, with the same positions
		call, cancel := context.WithTimeout(ctx, publishTime)
		failed := r.bus.PublishPartitions(call, topic, batches)
		cancel()
		for p, published := range batches {
			if err := failed[p]; err != nil {
				faults = append(faults, err)
				delete(waiting, p)
				continue
			}
			entries := waiting[p]
			done, waiting[p] = append(done, entries[:len(published)]...), entries[len(published):]
			if len(waiting[p]) == 0 {
				delete(waiting, p)
			}
		}
	}
	return done, errors.Join(faults...)
}

// batch is the first of a partition's entries, as many as one batch has room for.
func batch(topic string, entries []entry) (msgs []bus.Message) {
	size := 0
	for _, e := range entries {
		m := message(topic, e.entries[e.at], e.createdUS)
		size += m.Size()
		if len(msgs) == batchEntries || len(msgs) > 0 && size > bus.MaxBatchBytes {
			break
		}
		msgs = append(msgs, m)
	}
	return msgs
}

// mark notes rows as published. Should that fail they are published again, with the same positions.
func (r *Relay) mark(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for _, chunk := range store.Chunks(ids) {
			list, args := sqldb.In(2, chunk)
			if _, err := tx.ExecContext(ctx, "UPDATE outbox SET published_us = $1 WHERE id IN ("+list+")",
				append([]any{r.clock.NowMicros()}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// message makes of an entry what is published: where the payload has a position, it carries the entry's.
func message(topic string, e store.Placed, createdUS int64) bus.Message {
	value := e.GetPayload()
	switch {
	case strings.HasPrefix(topic, "outbound."):
		value = placed(value, &pb.Command{}, e.Position)
	case topic == store.TopicConversations:
		value = placed(value, &pb.ConversationEvent{}, e.Position)
	}
	var trace []bus.Header
	if e.GetTraceparent() != "" {
		trace = []bus.Header{{Key: "traceparent", Value: []byte(e.GetTraceparent())}}
	}
	return bus.Message{Topic: topic, Key: e.GetKey(), Value: value,
		Headers: telemetry.EventHeaders(trace, e.GetId(), "tributary."+e.GetType(), "tributary/conversation", createdUS)}
}

// placed adds a position to an encoded message, which has none: its fields may stand in any order.
func placed(payload []byte, m proto.Message, position int64) []byte {
	field := m.ProtoReflect().Descriptor().Fields().ByName("position").Number()
	return protowire.AppendVarint(protowire.AppendTag(slices.Clip(payload), field, protowire.VarintType), uint64(position))
}
