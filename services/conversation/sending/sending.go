// Package sending gets what members write to the provider: at most one command of a conversation is
// outstanding, and at most 64 of a connection; what became of it decides what leaves next. It never
// calls anybody: commands leave through the outbox and outcomes come back as receipts.
package sending

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Keys is what sending needs of the key registry's client.
type Keys interface {
	Acquire(ctx context.Context, acts []seal.Act) ([]seal.Subject, error)
	Keys(ctx context.Context, workspace string, purpose pb.Purpose, keyIDs []string) (map[string]seal.Subject, map[string]error, error)
}

// Connections knows every connection's present state (a bus.Table).
type Connections interface {
	Get(id string) (*pb.Connection, bool)
}

// Config of a Sending. Zero values are the design's.
type Config struct {
	// Late is how long after a command's position an adapter may still begin its call; 0 is 5 minutes.
	// The adapters' setting must be the same.
	Late time.Duration
	// LongestCall bounds one call to a provider; 0 is the channel's own.
	LongestCall time.Duration
	// Expiry ends what has not been sent; 0 is 24 hours.
	Expiry time.Duration
	// PerConnection bounds the outstanding commands of a connection; 0 is 64.
	PerConnection int
	// Poll is how often the jobs look without being woken; 0 is a second.
	Poll time.Duration
}

// Sending is safe for concurrent use, also by several processes on one database.
type Sending struct {
	db          *sqldb.DB
	keys        Keys
	connections Connections
	clock       *clock.Clock
	tel         *telemetry.Telemetry
	cfg         Config
	// committed wakes the relay after a commit that wrote to the outbox.
	committed func()
	wake      chan struct{}
	ended     metric.Int64Counter
	unmatched metric.Int64Counter
}

// New makes a Sending. committed is called after each transaction of sending's own jobs that may have
// left something in the outbox.
func New(db *sqldb.DB, keys Keys, connections Connections, clk *clock.Clock, tel *telemetry.Telemetry, cfg Config, committed func()) (*Sending, error) {
	if cfg.Late == 0 {
		cfg.Late = 5 * time.Minute
	}
	if cfg.Expiry == 0 {
		cfg.Expiry = 24 * time.Hour
	}
	if cfg.PerConnection == 0 {
		cfg.PerConnection = 64
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	s := &Sending{db: db, keys: keys, connections: connections, clock: clk, tel: tel, cfg: cfg,
		//bound:queue wake-ups of the pump | {} | the next is dropped: one is enough
		committed: committed, wake: make(chan struct{}, 1)}
	var err error
	if s.ended, err = tel.Meter.Int64Counter("tributary_send_outcomes",
		metric.WithDescription("Attempts that ended, by channel, status and error class.")); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	if s.unmatched, err = tel.Meter.Int64Counter("tributary_receipts_unmatched",
		metric.WithDescription("Receipts of attempts that are not here, because they were erased or never were.")); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	return s, nil
}

// Wake makes Pump look at once: something may leave, or a connection has changed.
func (s *Sending) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// longestCall is how long an adapter's call may take.
func (s *Sending) longestCall(channelName string) time.Duration {
	if s.cfg.LongestCall > 0 {
		return s.cfg.LongestCall
	}
	if f, ok := channel.Lookup(channelName); ok && f.LongestCall > 0 {
		return time.Duration(f.LongestCall) * time.Second
	}
	return time.Minute
}
