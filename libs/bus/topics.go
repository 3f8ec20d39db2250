package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Topic is a topic's descriptor: services declare theirs and EnsureTopics creates or checks them.
type Topic struct {
	Name       string
	Partitions int // 0: the configuration's
	Compacted  bool
	Retention  time.Duration // 0: for ever
	// MaxCompactionLag and Segment, for topics whose old values must go soon; 0: the broker's.
	MaxCompactionLag time.Duration
	Segment          time.Duration
	// OffsetsOutlive: the brokers must keep commits for longer than Retention, else a group that was
	// stopped for long would start again at records it has handled. For topics of commands.
	OffsetsOutlive bool
}

// EnsureTopics creates what is missing, waits until every partition has a leader, brings settings into line,
// and checks replicas, min.insync.replicas and unclean election where there are three brokers.
// The number of partitions of an existing topic stays: raising it would move keys.
func (b *Bus) EnsureTopics(ctx context.Context, topics ...Topic) error {
	if len(topics) == 0 {
		return nil
	}
	cluster, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}})
	if err != nil {
		return fmt.Errorf("bus: topics: %w", err)
	}
	replicated := len(cluster.Brokers) >= 3
	created, err := b.createTopics(ctx, topics, replicated)
	if err != nil {
		return err
	}
	found, err := b.awaitLeaders(ctx, topics, created)
	if err != nil {
		return err
	}
	if err := b.alterTopics(ctx, topics, replicated); err != nil {
		return err
	}
	if err := b.checkOffsetRetention(ctx, topics, cluster.Brokers); err != nil || !replicated {
		return err
	}
	var faults []error
	for _, t := range found {
		for _, p := range t.Partitions {
			if len(p.Replicas) < 3 {
				faults = append(faults, fmt.Errorf("bus: topic %s: partition %d has %d replicas, with three brokers it needs 3", t.Name, p.ID, len(p.Replicas)))
				break
			}
		}
	}
	return errors.Join(faults...)
}

func (t Topic) settings(replicated bool) map[string]string {
	millis := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	settings := map[string]string{
		"cleanup.policy":    "delete",
		"retention.ms":      "-1",
		"max.message.bytes": strconv.Itoa(1 << 20),
		// Retention goes by the brokers' clock, and they refuse nothing for its stamp (Kafka refuses what is
		// more than an hour ahead). The embedded broker refuses nothing and goes by the stamp.
		"message.timestamp.type": "LogAppendTime",
	}
	if t.Compacted {
		settings["cleanup.policy"] = "compact"
	}
	if t.Retention > 0 {
		settings["retention.ms"] = millis(t.Retention)
	}
	if t.MaxCompactionLag > 0 {
		settings["max.compaction.lag.ms"] = millis(t.MaxCompactionLag)
	}
	if t.Segment > 0 {
		settings["segment.ms"] = millis(t.Segment)
	}
	if replicated {
		settings["min.insync.replicas"] = "2"
		settings["unclean.leader.election.enable"] = "false"
	}
	return settings
}

// createTopics gives the names of those that did not exist.
func (b *Bus) createTopics(ctx context.Context, topics []Topic, replicated bool) (created []string, err error) {
	req := &kafka.CreateTopicsRequest{}
	for _, t := range topics {
		cfg := kafka.TopicConfig{Topic: b.fullName(t.Name), NumPartitions: t.Partitions, ReplicationFactor: 1}
		if cfg.NumPartitions == 0 {
			cfg.NumPartitions = b.cfg.Partitions
		}
		if replicated {
			cfg.ReplicationFactor = 3
		}
		for name, value := range t.settings(replicated) {
			cfg.ConfigEntries = append(cfg.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
		}
		req.Topics = append(req.Topics, cfg)
	}
	res, err := b.client.CreateTopics(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("bus: topics: %w", err)
	}
	var faults []error
	for topic, err := range res.Errors {
		switch {
		case err == nil:
			created = append(created, b.shortName(topic))
		case !errors.Is(err, kafka.TopicAlreadyExists):
			faults = append(faults, fmt.Errorf("bus: topic %s: %w", b.shortName(topic), err))
		}
	}
	return created, errors.Join(faults...)
}

func (b *Bus) alterTopics(ctx context.Context, topics []Topic, replicated bool) error {
	wanted := map[string]map[string]string{}
	req := &kafka.DescribeConfigsRequest{}
	for _, t := range topics {
		wanted[b.fullName(t.Name)] = t.settings(replicated)
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: b.fullName(t.Name),
		})
	}
	res, err := b.client.DescribeConfigs(ctx, req)
	if err != nil {
		return fmt.Errorf("bus: topics: %w", err)
	}
	alter := &kafka.IncrementalAlterConfigsRequest{}
	for _, r := range res.Resources {
		if r.Error != nil {
			return fmt.Errorf("bus: topic %s: %w", b.shortName(r.ResourceName), r.Error)
		}
		has := map[string]string{}
		for _, entry := range r.ConfigEntries {
			has[entry.ConfigName] = entry.ConfigValue
		}
		var changes []kafka.IncrementalAlterConfigsRequestConfig
		for name, value := range wanted[r.ResourceName] {
			if has[name] != value {
				b.log.InfoContext(ctx, "bus: topic setting changed", "topic", b.shortName(r.ResourceName), "setting", name, "from", has[name], "to", value)
				changes = append(changes, kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet})
			}
		}
		if len(changes) > 0 {
			alter.Resources = append(alter.Resources, kafka.IncrementalAlterConfigsRequestResource{
				ResourceType: kafka.ResourceTypeTopic, ResourceName: r.ResourceName, Configs: changes,
			})
		}
	}
	if len(alter.Resources) == 0 {
		return nil
	}
	altered, err := b.client.IncrementalAlterConfigs(ctx, alter)
	if err != nil {
		return fmt.Errorf("bus: topics: %w", err)
	}
	for _, r := range altered.Resources {
		if r.Error != nil {
			return fmt.Errorf("bus: topic %s: %w", b.shortName(r.ResourceName), r.Error)
		}
	}
	return nil
}

func (b *Bus) checkOffsetRetention(ctx context.Context, topics []Topic, brokers []kafka.Broker) error {
	var longest Topic
	for _, t := range topics {
		if t.OffsetsOutlive && t.Retention >= longest.Retention {
			longest = t
		}
	}
	if !longest.OffsetsOutlive {
		return nil
	}
	const setting = "offsets.retention.minutes"
	res, err := b.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeBroker, ResourceName: strconv.Itoa(brokers[0].ID), ConfigNames: []string{setting},
	}}})
	if err != nil {
		return fmt.Errorf("bus: %s: %w", setting, err)
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			return fmt.Errorf("bus: %s: %w", setting, r.Error)
		}
		for _, entry := range r.ConfigEntries {
			if entry.ConfigName != setting {
				continue
			}
			minutes, err := strconv.ParseInt(entry.ConfigValue, 10, 64)
			if err != nil {
				return fmt.Errorf("bus: %s: %w", setting, err)
			}
			if kept := time.Duration(minutes) * time.Minute; longest.Retention == 0 || kept <= longest.Retention {
				return fmt.Errorf("bus: the brokers keep offsets for %v (%s), %s keeps records for %v: the offsets must be kept longer",
					kept, setting, longest.Name, longest.Retention)
			}
			return nil
		}
	}
	return fmt.Errorf("bus: the brokers do not tell their %s", setting)
}

// awaitLeaders: right after a topic is created, writes fail until every partition has a leader, and until
// that broker knows that it is.
func (b *Bus) awaitLeaders(ctx context.Context, topics []Topic, created []string) ([]kafka.Topic, error) {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = b.fullName(t.Name)
	}
	//bound:retry waiting for a topic that was made | after {$1}, growing to {$2} | goes on within the caller's time
	wait := pause(20*time.Millisecond, time.Second)
	for {
		found, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
		if err == nil {
			err = leaderless(found.Topics)
		}
		if err == nil {
			_, err = b.spansOf(ctx, created)
		}
		if err == nil {
			return found.Topics, nil
		}
		if wait(ctx) != nil {
			return nil, fmt.Errorf("bus: topics: %w", err)
		}
		b.transport.CloseIdleConnections() // the metadata is cached; this asks again
	}
}

func leaderless(topics []kafka.Topic) error {
	for _, t := range topics {
		if t.Error != nil {
			return fmt.Errorf("%s: %w", t.Name, t.Error)
		}
		if len(t.Partitions) == 0 {
			return fmt.Errorf("%s: %w", t.Name, kafka.LeaderNotAvailable)
		}
		for _, p := range t.Partitions {
			if p.Error != nil {
				return fmt.Errorf("%s/%d: %w", t.Name, p.ID, p.Error)
			}
			if p.Leader.Host == "" {
				return fmt.Errorf("%s/%d: %w", t.Name, p.ID, kafka.LeaderNotAvailable)
			}
		}
	}
	return nil
}

// partitions of a topic, from the cached metadata.
func (b *Bus) partitions(ctx context.Context, topic string) ([]int, error) {
	of, err := b.leaders(ctx, topic)
	if err != nil {
		return nil, err
	}
	return of.partitions, nil
}

// awaitTopics waits until the topics exist, for ever: whoever creates them may start later.
func (b *Bus) awaitTopics(ctx context.Context, topics []string) error {
	//bound:retry waiting for topics to be there | after {$1}, growing to {$2} | goes on
	wait := pause(50*time.Millisecond, 2*time.Second)
	for logged := false; ; {
		var err error
		for _, topic := range topics {
			if _, err = b.partitions(ctx, topic); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		if !logged && ctx.Err() == nil {
			logged = true
			b.log.WarnContext(ctx, "bus: waiting for topics", "error", err)
		}
		if wait(ctx) != nil {
			return ctx.Err()
		}
	}
}

// span is what a partition holds: offsets from first up to, not including, end.
type span struct{ first, end int64 }

type topicPartition struct {
	topic     string // without the prefix
	partition int
}

// spans asks the leaders what the partitions hold.
func (b *Bus) spans(ctx context.Context, of []topicPartition) (map[topicPartition]span, error) {
	ask := func(timestamp int64) (map[topicPartition]int64, error) {
		req := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{}}
		for _, tp := range of {
			name := b.fullName(tp.topic)
			req.Topics[name] = append(req.Topics[name], kafka.OffsetRequest{Partition: tp.partition, Timestamp: timestamp})
		}
		res, err := b.client.ListOffsets(ctx, req)
		if err != nil {
			return nil, err
		}
		offsets := map[topicPartition]int64{}
		for topic, partitions := range res.Topics {
			for _, p := range partitions {
				if p.Error != nil {
					return nil, fmt.Errorf("%s/%d: %w", b.shortName(topic), p.Partition, p.Error)
				}
				offsets[topicPartition{b.shortName(topic), p.Partition}] = max(p.FirstOffset, p.LastOffset)
			}
		}
		return offsets, nil
	}
	if len(of) == 0 {
		return nil, nil
	}
	first, err := ask(kafka.FirstOffset)
	if err == nil {
		var end map[topicPartition]int64
		if end, err = ask(kafka.LastOffset); err == nil {
			spans := make(map[topicPartition]span, len(of))
			for _, tp := range of {
				spans[tp] = span{first[tp], end[tp]}
			}
			return spans, nil
		}
	}
	b.afterFailure(err)
	return nil, fmt.Errorf("bus: offsets: %w", err)
}
