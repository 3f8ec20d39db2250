package telemetry

import (
	"context"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Tally is a counter for hot paths: counting is one atomic addition, and labels are looked at when metrics are read.
type Tally[K comparable] struct {
	labels func(K) []attribute.KeyValue
	//bound:cache counts of a tally | one for each of its keys, which are as many as its labels | kept
	counts     sync.Map // K -> *tallied
	registered metric.Registration
}

type tallied struct {
	n      atomic.Int64
	labels metric.ObserveOption
}

// NewTally makes a Tally of what K tells apart; labels gives a key's labels. Beside an error it counts all the
// same, and nobody is told.
func NewTally[K comparable](m metric.Meter, name, description string, labels func(K) []attribute.KeyValue) (*Tally[K], error) {
	t := &Tally[K]{labels: labels}
	counter, err := m.Int64ObservableCounter(name, metric.WithDescription(description))
	if err != nil {
		return t, err
	}
	t.registered, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		t.counts.Range(func(_, counted any) bool {
			c := counted.(*tallied)
			o.ObserveInt64(counter, c.n.Load(), c.labels)
			return true
		})
		return nil
	}, counter)
	return t, err
}

// Add counts n of a key.
func (t *Tally[K]) Add(key K, n int) {
	counted, ok := t.counts.Load(key)
	if !ok {
		counted, _ = t.counts.LoadOrStore(key, &tallied{labels: metric.WithAttributes(t.labels(key)...)})
	}
	counted.(*tallied).n.Add(int64(n))
}

// Close ends what is told of it.
func (t *Tally[K]) Close() error {
	if t.registered == nil {
		return nil
	}
	return t.registered.Unregister()
}
