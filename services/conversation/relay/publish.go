package relay

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Bounds of one look at a topic and of one call of the broker.
const (
	//bound:queue outbox rows of a topic that are published at once | {} | the others wait in the database
	topicWindow = 1000
	//bound:queue outbox rows in one call of the broker | {} | the next call
	batchRows = 500
)

// row of the outbox that has a position.
type row struct {
	id, key, typ, traceparent string
	payload                   []byte
	position, createdUS       int64
}

// publishTopic publishes what waits of one topic, its partitions side by side. full: there may be more.
func (r *Relay) publishTopic(ctx context.Context, topic string) (full bool, err error) {
	var rows []row
	if err := r.db.View(ctx, func(tx *sql.Tx) error {
		return sqldb.Query(ctx, tx, `SELECT id, message_key, type, traceparent, payload, position, created_us FROM outbox
			WHERE topic = $1 AND published_us IS NULL AND position IS NOT NULL ORDER BY position LIMIT $2`, []any{topic, topicWindow},
			func(found *sql.Rows) error {
				var w row
				err := found.Scan(&w.id, &w.key, &w.typ, &w.traceparent, &w.payload, &w.position, &w.createdUS)
				rows = append(rows, w)
				return err
			})
	}); err != nil {
		return false, err
	}
	partitions := map[int][]row{}
	for _, w := range rows {
		p, err := r.bus.PartitionFor(ctx, topic, w.key)
		if err != nil {
			return false, err
		}
		partitions[p] = append(partitions[p], w)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []row
	var faults []error
	for p, waiting := range partitions {
		//bound:goroutines partitions of a topic that are published to | one each | waited for
		wg.Go(func() {
			done, err := r.publishPartition(ctx, topic, p, waiting)
			mu.Lock()
			defer mu.Unlock()
			acknowledged, faults = append(acknowledged, done...), append(faults, err)
		})
	}
	wg.Wait()
	faults = append(faults, r.mark(ctx, acknowledged))
	r.published.Add(ctx, int64(len(acknowledged)), metric.WithAttributes(attribute.String("topic", topic)))
	return len(rows) == topicWindow, errors.Join(faults...)
}

// publishPartition publishes rows in batches, one at a time, and stops at the first that is not
// acknowledged.
func (r *Relay) publishPartition(ctx context.Context, topic string, partition int, rows []row) (done []row, err error) {
	for len(rows) > 0 {
		var batch []bus.Message
		size := 0
		for _, w := range rows {
			m, err := message(ctx, topic, w)
			if err != nil {
				return done, err
			}
			size += m.Size()
			if len(batch) == batchRows || len(batch) > 0 && size > bus.MaxBatchBytes {
				break
			}
			batch = append(batch, m)
		}
		//bound:timeout one call of the broker for the outbox | {} | published again, with the same positions
		call, cancel := context.WithTimeout(ctx, publishTime)
		err := r.bus.PublishPartition(call, topic, partition, batch)
		cancel()
		if err != nil {
			return done, err
		}
		done, rows = append(done, rows[:len(batch)]...), rows[len(batch):]
	}
	return done, nil
}

// mark notes rows as published. Should that fail they are published again, with the same positions.
func (r *Relay) mark(ctx context.Context, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	ids := make([]string, len(rows))
	for i, w := range rows {
		ids[i] = w.id
	}
	return r.db.Tx(ctx, func(tx *sql.Tx) error {
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

// message makes of a row what is published: where the payload has a position, it carries the row's.
func message(ctx context.Context, topic string, w row) (bus.Message, error) {
	value := w.payload
	var err error
	switch {
	case strings.HasPrefix(topic, "outbound."):
		var c pb.Command
		value, err = placed(w, &c, func() { c.Position = w.position })
	case topic == store.TopicConversations:
		var e pb.ConversationEvent
		value, err = placed(w, &e, func() { e.Position = w.position })
	}
	if w.traceparent != "" {
		ctx = telemetry.Extract(ctx, []bus.Header{{Key: "traceparent", Value: []byte(w.traceparent)}})
	}
	return bus.Message{Topic: topic, Key: w.key, Value: value,
		Headers: telemetry.EventHeaders(ctx, w.id, "tributary."+w.typ, "tributary/conversation", w.createdUS)}, err
}

func placed(w row, m proto.Message, set func()) ([]byte, error) {
	if err := proto.Unmarshal(w.payload, m); err != nil {
		return nil, err
	}
	set()
	return proto.Marshal(m)
}
