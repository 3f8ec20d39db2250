package bustest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/segmentio/kafka-go"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/devbroker"
)

// Serve serves what an embedded broker has kept in a folder, which nobody else may use meanwhile.
func Serve(ctx context.Context, folder string) (addr string, stop func(), err error) {
	broker, err := devbroker.Start(ctx, devbroker.Config{Dir: folder})
	if err != nil {
		return "", nil, err
	}
	return broker.Addr(), broker.Close, nil
}

// Records reads every record of every topic whose name begins with prefix, as any client of the brokers
// could: each partition from the first offset that there is to the end that it has then.
func Records(ctx context.Context, brokers []string, prefix string, each func(bus.Record) error) error {
	client := &kafka.Client{Addr: kafka.TCP(brokers...), Transport: &kafka.Transport{}}
	defer client.Transport.(*kafka.Transport).CloseIdleConnections()
	found, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	for _, topic := range found.Topics {
		if !strings.HasPrefix(topic.Name, prefix) {
			continue
		}
		requests := make([]kafka.OffsetRequest, 0, 2*len(topic.Partitions))
		for _, p := range topic.Partitions {
			requests = append(requests, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
		}
		offsets, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic.Name: requests}})
		if err != nil {
			return err
		}
		for _, p := range offsets.Topics[topic.Name] {
			if err := errors.Join(p.Error, partition(ctx, client, topic.Name, p, func(r bus.Record) error {
				r.Topic = strings.TrimPrefix(topic.Name, prefix)
				return each(r)
			})); err != nil {
				return fmt.Errorf("%s/%d: %w", topic.Name, p.Partition, err)
			}
		}
	}
	return nil
}

func partition(ctx context.Context, client *kafka.Client, topic string, p kafka.PartitionOffsets, each func(bus.Record) error) error {
	for at := p.FirstOffset; at < p.LastOffset; {
		res, err := client.Fetch(ctx, &kafka.FetchRequest{Topic: topic, Partition: p.Partition, Offset: at, MinBytes: 1, MaxBytes: 4 << 20})
		if err != nil {
			return err
		}
		if res.Error != nil {
			return res.Error
		}
		began := at
		for {
			r, err := res.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if r.Offset < at { // a batch is given from its beginning
				continue
			}
			at = r.Offset + 1
			record, err := recordOf(p.Partition, r)
			if err != nil {
				return err
			}
			if err := each(record); err != nil {
				return err
			}
		}
		if at == began {
			return nil // what is left was compacted away
		}
	}
	return nil
}

func recordOf(partition int, r *kafka.Record) (bus.Record, error) {
	out := bus.Record{Partition: partition, Offset: r.Offset, Time: r.Time}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, bus.Header{Key: h.Key, Value: h.Value})
	}
	key, err := kafka.ReadAll(r.Key)
	if err != nil {
		return out, err
	}
	out.Key = string(key)
	out.Value, err = kafka.ReadAll(r.Value)
	return out, err
}
