package bus

import (
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// Message is what is published. Key decides the partition (murmur2, as Java's client does).
type Message struct {
	// Topic without the prefix.
	Topic   string
	Key     string
	Value   []byte
	Headers []Header
}

// Header of a message; CloudEvents and trace headers are made by telemetry.EventHeaders.
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
	// Time that Kafka took it, by its clock.
	Time time.Time
}

const (
	// MaxValueBytes is the largest value Publish takes (768 KiB).
	MaxValueBytes = 768 << 10
	// MaxBatchBytes is the most that PublishPartitions takes for one, by the sum of Size.
	MaxBatchBytes = 900 << 10

	// maxMessageBytes leaves room in a batch for the headers that a dead letter adds.
	maxMessageBytes = MaxBatchBytes - 4<<10
)

// Errors.
var (
	// ErrFull: MaxInFlightBytes are already on their way.
	ErrFull = errors.New("bus: too much in flight")
	// ErrStaleGeneration: the group has moved on; this member no longer owns the partition.
	ErrStaleGeneration = errors.New("bus: stale generation")
	// ErrTooLarge: a value above MaxValueBytes, or headers that make the message too large with it.
	ErrTooLarge = errors.New("bus: value too large")
)

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

// Size is what a message counts against MaxBatchBytes and MaxInFlightBytes: its bytes and what the
// format adds, rounded up.
func (m Message) Size() int {
	size := 64 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		size += 8 + len(h.Key) + len(h.Value)
	}
	return size
}

func (b *Bus) record(m kafka.Message) Record {
	r := Record{
		Topic:     b.shortName(m.Topic),
		Partition: m.Partition,
		Offset:    m.Offset,
		Key:       string(m.Key),
		Value:     m.Value,
		Time:      m.Time,
	}
	if len(m.Headers) > 0 {
		r.Headers = make([]Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = Header(h)
		}
	}
	return r
}
