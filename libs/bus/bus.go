package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
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
	// Partitions of topics that this process creates; 0: 32.
	Partitions int
	// Heartbeat is how often a member of a group tells that it is there, and hears that others come or go; 0:
	// 100 ms. Until it has heard, partitions that others gave back stand still.
	Heartbeat time.Duration
	// MaxInFlightBytes bounds what Publish has handed to the client and not seen completed; 0: 64 MiB.
	MaxInFlightBytes int64
	// Dial stands in for the network in tests; nil: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Now stamps what is published; nil: time.Now.
	Now func() time.Time
	// Log and Meter may be nil.
	Log   *slog.Logger
	Meter metric.Meter
}

const (
	defaultPartitions = 32
	defaultHeartbeat  = 100 * time.Millisecond
	//bound:queue bytes handed to the Kafka client and not yet acknowledged or given up | {bytes} | ErrFull: webhooks are spooled, others try again
	defaultMaxInFlight = 64 << 20

	// requestTimeout bounds a question to the brokers.
	requestTimeout = 5 * time.Second
)

// Validate joins all faults and names the settings.
func (c Config) Validate() error {
	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("Brokers: at least one host:port is needed"))
	}
	for _, broker := range c.Brokers {
		if !strings.Contains(broker, ":") {
			faults = append(faults, fmt.Errorf("Brokers: %q is not host:port", broker))
		}
	}
	if c.Partitions < 0 {
		faults = append(faults, errors.New("Partitions: must not be negative"))
	}
	if c.Heartbeat < 0 || c.Heartbeat > sessionTimeout/3 {
		faults = append(faults, fmt.Errorf("Heartbeat: must not be negative, and at most %s", sessionTimeout/3))
	}
	if c.MaxInFlightBytes != 0 && c.MaxInFlightBytes < MaxBatchBytes {
		faults = append(faults, fmt.Errorf("MaxInFlightBytes: must be at least %d, the largest batch", MaxBatchBytes))
	}
	return errors.Join(append(faults, c.TLS.validate(), c.SASL.validate())...)
}

// Bus is one process's access to the brokers. It is safe for concurrent use.
type Bus struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	transport *kafka.Transport
	dialer    *kafka.Dialer
	client    *kafka.Client
	publisher *publisher
	//bound:cache who leads a topic's partitions | one a topic, for {leadersKept} | asked anew; sooner after a failure
	led sync.Map // topic -> *leadership, by short name

	ahead     chan struct{} // has a place for each reader that fetches far ahead
	inFlight  atomic.Int64
	refreshed atomic.Int64 // when refresh last threw the metadata away, Unix nanoseconds

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

// Open connects and checks that the brokers can be spoken to: it fails for a setting that cannot be
// right, a certificate that is not trusted or a password that is refused. It does not fail for a broker
// that is away: publishing and reading then fail until it is back.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = defaultPartitions
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.MaxInFlightBytes == 0 {
		cfg.MaxInFlightBytes = defaultMaxInFlight
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "tributary"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Meter == nil {
		cfg.Meter = noop.Meter{}
	}
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}

	//bound:exempt aheadPartitions says it
	b := &Bus{cfg: cfg, log: cfg.Log, ahead: make(chan struct{}, aheadPartitions)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.transport = &kafka.Transport{
		Dial: cfg.Dial,
		//bound:timeout connecting to a broker, for requests | {} | the next attempt
		DialTimeout: time.Second,
		//bound:cache the cluster's metadata | for {} | asked anew; sooner after a refusal
		MetadataTTL: 5 * time.Second,
		ClientID:    cfg.ClientID,
		TLS:         tlsConfig,
		SASL:        mechanism,
		Context:     b.ctx,
	}
	b.dialer = &kafka.Dialer{
		DialFunc: cfg.Dial,
		//bound:timeout connecting to a broker, to read or join | {} | tried again
		Timeout:       3 * time.Second,
		DualStack:     true,
		ClientID:      cfg.ClientID,
		TLS:           tlsConfig,
		SASLMechanism: mechanism,
	}
	//bound:timeout a question to the brokers | {} | fails; who asks tries again
	b.client = &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: b.transport, Timeout: requestTimeout}
	b.publisher = &publisher{b: b, lanes: map[int]*lane{}}
	if b.metrics, err = newMetrics(b, cfg.Meter); err != nil {
		b.cancel()
		return nil, err
	}

	//bound:timeout the first question to the brokers | {} | logged: they may come later
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}}); err != nil {
		var untrusted *tls.CertificateVerificationError
		if errors.Is(err, kafka.SASLAuthenticationFailed) || errors.Is(err, kafka.UnsupportedSASLMechanism) || errors.As(err, &untrusted) {
			_ = b.Close(ctx)
			return nil, fmt.Errorf("bus: %w", err)
		}
		b.log.WarnContext(ctx, "bus: no broker answers", "error", err)
	}
	return b, nil
}

// Close ends all readers and flushes what is in flight, bounded by ctx.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()

	done := make(chan struct{})
	//bound:exempt ends with what it closes; Close gives up on it with its context
	go func() {
		defer close(done)
		b.publisher.close()
		b.cancel()
		b.work.Wait()
		b.transport.CloseIdleConnections()
		b.metrics.close()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		b.cancel()
		return fmt.Errorf("bus: closing: %w", ctx.Err())
	}
}

// enter gives a context that also ends when the bus is closed. Close waits until leave was called.
func (b *Bus) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, errClosed
	}
	b.work.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(b.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		b.work.Done()
	}, nil
}

// background runs f, which ends by itself within bounds; Close waits for it.
//
//bound:caller goroutines
func (b *Bus) background(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		go f() // Close no longer waits
		return
	}
	b.work.Go(f)
}

// refresh makes the next request ask for the cluster's metadata again, at most once a second: after a
// leader has moved, the cached one would be wrong for seconds. Requests under way keep their connection.
func (b *Bus) refresh() {
	now, last := time.Now().UnixNano(), b.refreshed.Load()
	if now-last > int64(time.Second) && b.refreshed.CompareAndSwap(last, now) {
		b.transport.CloseIdleConnections()
	}
}

func (b *Bus) fullName(topic string) string  { return b.cfg.Prefix + topic }
func (b *Bus) shortName(topic string) string { return strings.TrimPrefix(topic, b.cfg.Prefix) }

// pause waits for a while that grows with each call, up to limit, or until ctx ends.
//
//bound:caller retry
func pause(first, limit time.Duration) func(ctx context.Context) error {
	growing := backoff.NewExponentialBackOff()
	growing.InitialInterval, growing.MaxInterval = first, limit
	growing.Reset()
	return func(ctx context.Context) error { return sleep(ctx, growing.NextBackOff()) }
}

func sleep(ctx context.Context, d time.Duration) error {
	//bound:exempt as long as its caller says, and no longer than the context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
