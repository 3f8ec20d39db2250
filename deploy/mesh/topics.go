package mesh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tributary.dev/libs/devbroker"
)

// Topics are the mesh's, by a Kafka client as an operator has one. Names are without the prefix.
type Topics struct {
	client *kgo.Client
	prefix string
	broker *devbroker.Broker // nil where the mesh's own is spoken to
}

// Topics reaches the brokers. The embedded one of a mesh that is stopped is run on the mesh's folder until
// Close.
func (m *Mesh) Topics(ctx context.Context) (t *Topics, err error) {
	var addresses []string
	t = &Topics{prefix: "tributary."}
	folder := filepath.Join(m.cfg.Data, "broker")
	switch {
	case m.real != nil:
		addresses, t.prefix = strings.Split(m.real.parts.kafka, ","), m.real.name+"."
	case m.runs():
		address, err := os.ReadFile(filepath.Join(folder, "address"))
		if err != nil {
			return nil, err
		}
		addresses = []string{strings.TrimSpace(string(address))}
	default:
		if t.broker, err = devbroker.Start(ctx, devbroker.Config{Dir: folder}); err != nil {
			return nil, err
		}
		addresses = []string{t.broker.Addr()}
	}
	t.client, err = kgo.NewClient(kgo.SeedBrokers(addresses...))
	return t, err
}

// runs tells whether any of the mesh's processes does.
func (m *Mesh) runs() bool {
	return slices.ContainsFunc(m.processes, func(p *Process) bool {
		r := p.current()
		return r != nil && !r.gone()
	})
}

// Close lets go of the brokers.
func (t *Topics) Close() {
	t.client.Close()
	if t.broker != nil {
		t.broker.Close()
	}
}

// Rewind sets the offsets of every group back to the beginning, but of topics that keep names, and tells how
// many records will be handled again. The groups have no members.
func (t *Topics) Rewind(ctx context.Context, keep func(topic string) bool) (records int64, err error) {
	admin := kadm.NewClient(t.client)
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return 0, err
	}
	for _, group := range groups.Groups() {
		if !strings.HasPrefix(group, t.prefix) {
			continue
		}
		committed, err := admin.FetchOffsets(ctx, group)
		if err != nil {
			return 0, err
		}
		back := kadm.Offsets{}
		committed.Each(func(o kadm.OffsetResponse) {
			if !keep(strings.TrimPrefix(o.Topic, t.prefix)) {
				records += o.At
				back.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, LeaderEpoch: -1})
			}
		})
		// Members that were killed are in the group until their session is over.
		if err := Eventually(ctx, time.Minute, func() error { return admin.CommitAllOffsets(ctx, group, back) }); err != nil {
			return 0, fmt.Errorf("group %s: %w", group, err)
		}
	}
	return records, nil
}

// Names of the topics that begin with a word.
func (t *Topics) Names(ctx context.Context, begin string) ([]string, error) {
	topics, err := kadm.NewClient(t.client).ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range topics.Names() {
		if name, own := strings.CutPrefix(name, t.prefix); own && strings.HasPrefix(name, begin) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Read gives every record that topics hold by now.
func (t *Topics) Read(ctx context.Context, topics []string, each func(r *kgo.Record)) error {
	full := make([]string, len(topics))
	for i, topic := range topics {
		full[i] = t.prefix + topic
	}
	admin := kadm.NewClient(t.client)
	starts, err := admin.ListStartOffsets(ctx, full...)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, full...)
	if err := errors.Join(err, starts.Error(), ends.Error()); err != nil {
		return err
	}
	from, left := map[string]map[int32]kgo.Offset{}, 0
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if start.Offset >= end.Offset {
			return
		}
		if from[end.Topic] == nil {
			from[end.Topic] = map[int32]kgo.Offset{}
		}
		from[end.Topic][end.Partition] = kgo.NewOffset().At(start.Offset)
		left++
	})
	if left == 0 {
		return nil
	}
	t.client.AddConsumePartitions(from)
	defer func() {
		gone := map[string][]int32{}
		for topic, partitions := range from {
			for p := range partitions {
				gone[topic] = append(gone[topic], p)
			}
		}
		t.client.RemoveConsumePartitions(gone)
	}()
	for left > 0 {
		fetches := t.client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, _ := ends.Lookup(r.Topic, r.Partition)
			if r.Offset >= end.Offset {
				return
			}
			each(r)
			if r.Offset == end.Offset-1 {
				left--
			}
		})
	}
	return nil
}

// Produce writes records and waits until all brokers have them; a record's topic is without the prefix.
func (t *Topics) Produce(ctx context.Context, records ...*kgo.Record) error {
	for _, r := range records {
		r.Topic = t.prefix + r.Topic
	}
	return t.client.ProduceSync(ctx, records...).FirstErr()
}
