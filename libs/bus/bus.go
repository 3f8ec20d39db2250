// Package bus is the mesh's way onto Kafka: publish, subscribe in batches, keep a compacted topic as a
// map (Table), and set aside what cannot be handled (dead letters).
package bus

import (
	"context"
	"errors"
	"time"
)

// Config says how to reach the brokers.
type Config struct {
	Brokers []string
	// Prefix stands before every topic and group name.
	Prefix string
	// ClientID names this process to the brokers.
	ClientID string
	TLS      TLS
	SASL     SASL
	// Partitions of topics that this process creates.
	Partitions int
	// MaxInFlightBytes bounds what Publish has handed to the client and not seen completed.
	MaxInFlightBytes int64
}

// TLS is on when Enabled; CAFile adds to the system's roots, CertFile and KeyFile are for mutual TLS.
type TLS struct {
	Enabled                   bool
	CAFile, CertFile, KeyFile string
	ServerName                string
}

// SASL mechanisms: "" (none), PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.
type SASL struct {
	Mechanism, Username, Password string
}

// Message is what is published. Key decides the partition (murmur2, as Java's client does).
type Message struct {
	// Topic without the prefix.
	Topic   string
	Key     string
	Value   []byte
	Headers []Header
}

// Header of a message; CloudEvents and trace headers are made with EventHeaders.
type Header struct {
	Key   string
	Value []byte
}

// Record is what was read.
type Record struct {
	// Topic without the prefix.
	Topic     string
	Partition int
	Offset    int64
	Key       string
	Value     []byte
	Headers   []Header
	Time      time.Time
}

// Topic is a topic's descriptor: services declare theirs and EnsureTopics creates or checks them.
type Topic struct {
	Name       string
	Partitions int // 0: the configuration's
	Compacted  bool
	Retention  time.Duration // 0: for ever
	// MaxCompactionLag and Segment, for topics whose old values must go soon; 0: the broker's.
	MaxCompactionLag time.Duration
	Segment          time.Duration
}

// Subscription handles topics in batches as a member of a consumer group. An offset is committed after
// Handle returned nil for everything below it.
type Subscription struct {
	// Group without the prefix.
	Group  string
	Topics []string
	// MaxBatch records are handed over at once; 0 is 500. All of one partition, in offset order.
	MaxBatch int
	// Handle must be safe to call for different partitions at once. An error wrapped with DataFault
	// means that these records can't be handled as they are: the batch is bisected and the one at fault
	// goes to dead.<topic>. Any other error stops the partition and the batch is tried again, for ever.
	Handle func(ctx context.Context, batch []Record) error
}

// Errors.
var (
	// ErrFull: MaxInFlightBytes are already on their way.
	ErrFull = errors.New("bus: too much in flight")
	// ErrStaleGeneration: the group has moved on; this member no longer owns the partition.
	ErrStaleGeneration = errors.New("bus: stale generation")
	// ErrTooLarge: a value above MaxValueBytes.
	ErrTooLarge = errors.New("bus: value too large")
)

// MaxValueBytes is the largest value Publish takes (768 KiB).
const MaxValueBytes = 768 << 10

// DataFault marks err as a fault of the data: trying again can't help. reason is a short class that is
// counted and written into the dead letter; it must carry nothing personal.
func DataFault(reason string, err error) error { return &dataFault{reason, err} }

// IsDataFault tells whether err is, or wraps, a DataFault, and its reason.
func IsDataFault(err error) (reason string, ok bool) {
	var f *dataFault
	if errors.As(err, &f) {
		return f.reason, true
	}
	return "", false
}

type dataFault struct {
	reason string
	err    error
}

func (f *dataFault) Error() string { return "data fault (" + f.reason + "): " + f.err.Error() }
func (f *dataFault) Unwrap() error { return f.err }
