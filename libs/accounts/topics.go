package accounts

import (
	"time"

	"tributary.dev/libs/bus"
)

// Topics are the descriptors of apps and connections: whoever publishes or reads them ensures the same. A
// secret that was taken out of an entry is gone from the brokers' disks within two hours.
func Topics() []bus.Topic {
	var topics []bus.Topic
	for _, name := range []string{AppsTopic, ConnectionsTopic} {
		topics = append(topics, bus.Topic{Name: name, Partitions: 1, Compacted: true, MaxCompactionLag: time.Hour, Segment: time.Hour})
	}
	return topics
}
