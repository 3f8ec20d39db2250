package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	snapshotEvery = 5 * time.Second
	//bound:timeout knowing that a Table is current | {} | it is not known: 503, or tried again
	confirmTimeout = 5 * time.Second
)

// TableConfig of a Table.
type TableConfig[T any] struct {
	Topic  string
	Decode func(value []byte) (T, error)
	// Encode and Snapshot (a file) keep the last state for a start while the broker is away. Optional.
	Encode   func(T) ([]byte, error)
	Snapshot string
	// OnChange is called for each change after it shows in the map, from the table's one goroutine; ok
	// is false for a deletion. Ready and Confirm wait for it. Optional.
	OnChange func(key string, value T, ok bool)
}

// Table keeps a compacted topic as a map. A nil or empty value deletes a key. A value that cannot be
// decoded is counted and skipped. It shows nothing, or its snapshot, until it has read the topic to the
// end it had; from then on it follows.
//
//bound:cache entries of a Table | one a key of its compacted topic | grows with the topic, measured as tributary_table_entries
type Table[T any] struct {
	b   *Bus
	cfg TableConfig[T]

	mu       sync.RWMutex
	entries  map[string]T
	position map[topicPartition]int64 // everything below shows in entries; nil until the end was reached once
	moved    chan struct{}            // closed and replaced when position moves
	ask      *ask
	asked    time.Time // when the last question began that was answered and reached

	ready     chan struct{}
	readyOnce sync.Once
}

// ask is one question for the ends of the topic, shared by all who need one begun as late.
type ask struct {
	began time.Time
	done  chan struct{}
	err   error
}

// NewTable makes a table; Run fills it and keeps it.
func NewTable[T any](b *Bus, cfg TableConfig[T]) *Table[T] {
	return &Table[T]{b: b, cfg: cfg, entries: map[string]T{}, moved: make(chan struct{}), ready: make(chan struct{})}
}

// Run reads until ctx ends. Broker faults are waited out.
func (t *Table[T]) Run(ctx context.Context) error {
	ctx, leave, err := t.b.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	keeper := t.newKeeper()
	defer keeper.keep()

	fallback := keeper.load()
	for ctx.Err() == nil {
		spans, err := t.spans(ctx, fallback)
		if err != nil {
			return nil
		}
		err = t.follow(ctx, spans, keeper)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			t.b.log.ErrorContext(ctx, "bus: table is read anew: its position is no longer in the log", "topic", t.cfg.Topic)
		}
	}
	return nil
}

// spans waits for the brokers to tell what the topic holds. Once they have failed to, the snapshot
// counts.
func (t *Table[T]) spans(ctx context.Context, haveSnapshot bool) (map[topicPartition]span, error) {
	//bound:retry asking what a Table's topic holds | after {$1}, growing to {$2} | goes on; a snapshot counts meanwhile
	wait := pause(50*time.Millisecond, 2*time.Second)
	for {
		//bound:timeout asking what a Table's topic holds | {} | tried again
		attempt, cancel := context.WithTimeout(ctx, requestTimeout)
		spans, err := t.b.spansOf(attempt, []string{t.cfg.Topic})
		cancel()
		if err == nil {
			return spans, nil
		}
		if haveSnapshot && ctx.Err() == nil {
			t.setReady()
		}
		if wait(ctx) != nil {
			return nil, ctx.Err()
		}
	}
}

// follow reads from the first offsets on. What it reads is gathered apart until it has reached the ends
// the topic had, so that no value that has long been replaced shows; then it takes the place of what was
// there, and changes show as they come.
func (t *Table[T]) follow(ctx context.Context, spans map[topicPartition]span, keeper *keeper[T]) error {
	from := make(map[topicPartition]int64, len(spans))
	missing := map[topicPartition]int64{}
	seen := make(map[topicPartition]int64, len(spans))
	for at, holds := range spans {
		from[at], seen[at] = holds.first, holds.first
		if holds.end > holds.first {
			missing[at] = holds.end
		}
	}
	gathered := map[string]T{}
	if len(missing) == 0 {
		t.replace(ctx, gathered, seen)
		gathered = nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	//bound:exempt one a Table, and waited for
	go keeper.run(ctx)
	defer func() { cancel(); <-keeper.idle }()

	return t.b.each(ctx, from, func(f fetched) {
		if gathered == nil {
			t.apply(ctx, f)
			keeper.changed()
			return
		}
		for _, m := range f.msgs {
			if value, keep, ok := t.decode(ctx, m); ok && keep {
				gathered[string(m.Key)] = value
			} else if ok {
				delete(gathered, string(m.Key))
			}
		}
		seen[f.at] = f.seen
		if f.seen >= missing[f.at] {
			delete(missing, f.at)
		}
		if len(missing) == 0 {
			t.replace(ctx, gathered, seen)
			keeper.changed()
			gathered = nil
		}
	})
}

// decode: keep is false for a deletion, ok is false for what is skipped.
func (t *Table[T]) decode(ctx context.Context, m kafka.Message) (value T, keep, ok bool) {
	if len(m.Value) == 0 {
		return value, false, true
	}
	value, err := t.cfg.Decode(m.Value)
	if err != nil {
		t.b.metrics.tableUndecodable(ctx, t.cfg.Topic)
		t.b.log.ErrorContext(ctx, "bus: table skips what it cannot decode", "topic", t.cfg.Topic, "partition", m.Partition, "offset", m.Offset)
		return value, false, false
	}
	return value, true, true
}

func (t *Table[T]) replace(ctx context.Context, entries map[string]T, position map[topicPartition]int64) {
	t.mu.Lock()
	old := t.entries
	t.entries = entries
	t.mu.Unlock()

	if t.cfg.OnChange != nil {
		for key, value := range entries {
			t.cfg.OnChange(key, value, true)
		}
		var none T
		for key := range old {
			if _, kept := entries[key]; !kept {
				t.cfg.OnChange(key, none, false)
			}
		}
	}
	t.setReady() // before Confirm can see the position: who is confirmed is ready
	t.mu.Lock()
	t.move(position)
	t.mu.Unlock()
	t.b.metrics.tableEntries(ctx, t.cfg.Topic, len(entries))
}

func (t *Table[T]) apply(ctx context.Context, f fetched) {
	type change struct {
		key   string
		value T
		keep  bool
	}
	changes := make([]change, 0, len(f.msgs))
	for _, m := range f.msgs {
		if value, keep, ok := t.decode(ctx, m); ok {
			changes = append(changes, change{string(m.Key), value, keep})
		}
	}
	t.mu.Lock()
	for _, c := range changes {
		if c.keep {
			t.entries[c.key] = c.value
		} else {
			delete(t.entries, c.key)
		}
	}
	n := len(t.entries)
	t.mu.Unlock()

	if t.cfg.OnChange != nil {
		for _, c := range changes {
			t.cfg.OnChange(c.key, c.value, c.keep)
		}
	}
	t.mu.Lock()
	t.position[f.at] = f.seen
	t.move(t.position)
	t.mu.Unlock()
	t.b.metrics.tableEntries(ctx, t.cfg.Topic, n)
}

func (t *Table[T]) move(position map[topicPartition]int64) {
	t.position = position
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *Table[T]) setReady() { t.readyOnce.Do(func() { close(t.ready) }) }

// Get gives the value of a key.
func (t *Table[T]) Get(key string) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	value, ok := t.entries[key]
	return value, ok
}

// Len is the number of entries.
func (t *Table[T]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries)
}

// All calls yield for each entry of one consistent state, until it returns false. yield may use the
// table.
func (t *Table[T]) All(yield func(key string, value T) bool) {
	type entry struct {
		key   string
		value T
	}
	t.mu.RLock()
	entries := make([]entry, 0, len(t.entries))
	for key, value := range t.entries {
		entries = append(entries, entry{key, value})
	}
	t.mu.RUnlock()
	for _, e := range entries {
		if !yield(e.key, e.value) {
			return
		}
	}
}

// Ready: the table has once reached the end its topic had, or has loaded its snapshot while the broker
// was away.
func (t *Table[T]) Ready() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// WaitReady waits for Ready.
func (t *Table[T]) WaitReady(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("bus: table %s is not ready: %w", t.cfg.Topic, ctx.Err())
	}
}

// Confirm returns nil once the table has reached the end that the topic had at some moment after since
// (by time.Now). It asks the broker (many callers share one question), so that a nil means: as of since,
// the table misses nothing.
func (t *Table[T]) Confirm(ctx context.Context, since time.Time) error {
	for {
		t.mu.Lock()
		if !t.asked.Before(since) {
			t.mu.Unlock()
			return nil
		}
		a := t.ask
		if a == nil {
			a = &ask{began: time.Now(), done: make(chan struct{})}
			t.ask = a
			//bound:goroutines who asks whether a Table is current | one a Table | others wait for its answer
			t.b.background(func() { t.answer(a) })
		}
		t.mu.Unlock()
		select {
		case <-a.done:
			// A question begun before since says nothing about since: the next round asks another.
			if !a.began.Before(since) && a.err != nil {
				return a.err
			}
		case <-ctx.Done():
			return fmt.Errorf("bus: confirm %s: %w", t.cfg.Topic, ctx.Err())
		}
	}
}

func (t *Table[T]) answer(a *ask) {
	//bound:exempt confirmTimeout says it
	ctx, cancel := context.WithTimeout(t.b.ctx, confirmTimeout)
	defer cancel()
	err := t.reach(ctx)

	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		a.err = fmt.Errorf("bus: confirm %s: %w", t.cfg.Topic, err)
	} else {
		t.asked = a.began
	}
	t.ask = nil
	close(a.done)
}

// reach waits until everything shows that the topic holds now.
func (t *Table[T]) reach(ctx context.Context) error {
	spans, err := t.b.spansOf(ctx, []string{t.cfg.Topic})
	if err != nil {
		return err
	}
	for {
		t.mu.RLock()
		reached := t.position != nil
		for at, holds := range spans {
			position, read := t.position[at]
			reached = reached && read && position >= holds.end
		}
		moved := t.moved
		t.mu.RUnlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
