package bus

import (
	"context"
	"time"
)

// SCAFFOLD: the signatures the other packages build on; the owner of libs/bus replaces each body.

// Bus is one process's access to the brokers.
type Bus struct{}

// Open connects and checks that the brokers can be spoken to. It does not fail for a broker that is
// away: publishing and reading then fail until it is back.
func Open(ctx context.Context, cfg Config) (*Bus, error) { panic("scaffold") }

// Close flushes what is in flight, bounded by ctx, and ends all readers.
func (b *Bus) Close(ctx context.Context) error { panic("scaffold") }

// EnsureTopics creates what is missing, brings settings into line, waits until every partition has a
// leader, and checks replicas, min.insync.replicas and unclean election where there are three brokers.
func (b *Bus) EnsureTopics(ctx context.Context, topics ...Topic) error { panic("scaffold") }

// Publish writes the messages with acks=all and returns when all are acknowledged. On an error some may
// have landed, or may still land: whoever publishes again must be safe to be doubled.
func (b *Bus) Publish(ctx context.Context, msgs ...Message) error { panic("scaffold") }

// PartitionFor is the partition that Publish gives a key of topic.
func (b *Bus) PartitionFor(ctx context.Context, topic, key string) (int, error) { panic("scaffold") }

// PublishPartition writes one batch to one partition in one produce request: acknowledged whole, in
// order, or not at all (or not known). It never retries. The relay uses it.
func (b *Bus) PublishPartition(ctx context.Context, topic string, partition int, msgs []Message) error {
	panic("scaffold")
}

// Subscribe runs a subscription until ctx ends; faults of the broker are waited out.
func (b *Bus) Subscribe(ctx context.Context, s Subscription) error { panic("scaffold") }

// Consume is the layer below Subscribe, for those who commit by themselves (egress): run is called in
// its own goroutine for each partition assigned, in each generation, and must return when ctx ends
// (after which Commit still works until run has returned).
func (b *Bus) Consume(ctx context.Context, group string, topics []string, run func(ctx context.Context, p *Partition)) error {
	panic("scaffold")
}

// Partition is one assigned partition within one generation of a group.
type Partition struct {
	Topic     string
	Partition int
	// Metadata of the last commit, as found when the partition was assigned; "" where none.
	Metadata string
	// Next is the offset that will be read first.
	Next int64
}

// Fetch waits for records from Next on and returns at most max of them, advancing Next.
func (p *Partition) Fetch(ctx context.Context, max int) ([]Record, error) { panic("scaffold") }

// Commit commits next (the offset to resume at) with metadata (at most 4 KiB) for this generation.
// ErrStaleGeneration when refused; any other error means that the outcome is not known.
func (p *Partition) Commit(ctx context.Context, next int64, metadata string) error { panic("scaffold") }

// Tail calls handle for every record published to topics after Tail was called, from all partitions,
// in no group: broadcast. It returns when ctx ends.
func (b *Bus) Tail(ctx context.Context, topics []string, handle func(Record)) error {
	panic("scaffold")
}

// Lag is the records not yet handled, by topic and group, for /metrics (registered by the bus itself).

// Table keeps a compacted topic as a map. A nil or empty value deletes a key.
type Table[T any] struct{}

// TableConfig of a Table.
type TableConfig[T any] struct {
	Topic  string
	Decode func(value []byte) (T, error)
	// Encode and Snapshot (a file) keep the last state for a start while the broker is away. Optional.
	Encode   func(T) ([]byte, error)
	Snapshot string
	// OnChange is called for each change after it shows in the map, from the table's one goroutine; ok
	// is false for a deletion. Optional.
	OnChange func(key string, value T, ok bool)
}

// NewTable makes a table; Run fills it and keeps it.
func NewTable[T any](b *Bus, cfg TableConfig[T]) *Table[T] { panic("scaffold") }

// Run reads until ctx ends. Broker faults are waited out.
func (t *Table[T]) Run(ctx context.Context) error { panic("scaffold") }

// Get gives the value of a key.
func (t *Table[T]) Get(key string) (T, bool) { panic("scaffold") }

// All calls yield for each entry of one consistent state, until it returns false.
func (t *Table[T]) All(yield func(key string, value T) bool) { panic("scaffold") }

// Ready: the table has once reached the end its topic had, or has loaded its snapshot while the broker
// was away.
func (t *Table[T]) Ready() bool { panic("scaffold") }

// WaitReady waits for Ready.
func (t *Table[T]) WaitReady(ctx context.Context) error { panic("scaffold") }

// Confirm returns nil once the table has reached the end that the topic had at some moment after since.
// It asks the broker (many callers share one question), so that a nil means: as of since, the table
// misses nothing.
func (t *Table[T]) Confirm(ctx context.Context, since time.Time) error { panic("scaffold") }
