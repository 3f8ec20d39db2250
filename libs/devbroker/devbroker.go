// Package devbroker is the Kafka broker that standalone and tests carry within themselves: franz-go's
// kfake with its data on disk. Every write is synced before it is acknowledged, so that after kill -9
// every acknowledged message and every commit is there again. Retention and compaction are honoured.
// It has one node and no authentication: listen on loopback.
package devbroker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config of a broker.
type Config struct {
	// Dir holds its data; one process at a time. Empty: in memory, gone with the process.
	Dir string
	// Listen is an address; port 0 takes a free one. Empty: 127.0.0.1:0.
	Listen string
	// Partitions of a topic that is created without a number; 0: 4.
	Partitions int
	// Log gets what the broker warns of; nil: nothing.
	Log *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	close   func()
}

// Start starts a broker on what Dir holds. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 4
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("devbroker: %w", err)
	}

	unlock := func() {}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.DefaultNumPartitions(cfg.Partitions),
		kfake.WithLogger(logger{cfg.Log}),
		kfake.BrokerConfigs(map[string]string{
			// How often retention and compaction run; kfake's own hour is long beside a segment of an hour.
			"log.cleaner.backoff.ms": strconv.Itoa(5 * 60 * 1000),
			"min.insync.replicas":    "1",
		}),
	}
	if cfg.Dir != "" {
		if unlock, err = lock(cfg.Dir); err != nil {
			listener.Close()
			return nil, err
		}
		opts = append(opts, kfake.DataDir(filepath.Join(cfg.Dir, "log")), kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		listener.Close()
		unlock()
		return nil, fmt.Errorf("devbroker: %w", err)
	}
	return &Broker{
		cluster: cluster,
		addr:    listener.Addr().String(),
		close: sync.OnceFunc(func() {
			cluster.Close()
			unlock()
		}),
	}, nil
}

// Addr is host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes down what speeds up the next start.
func (b *Broker) Close() { b.close() }

// Clean applies retention and compaction now, for tests; else they run every few minutes.
func (b *Broker) Clean() { b.cluster.Compact() }

const dying, dyingPause = 2 * time.Second, 20 * time.Millisecond

// lock takes the folder for this process: two brokers on one folder would destroy each other's data.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("devbroker: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devbroker: %w", err)
	}
	// A process that was killed just now may not be gone yet.
	//bound:retry taking a folder that another process has | {dyingPause} apart, for {dying} | the broker does not start
	for began := time.Now(); ; time.Sleep(dyingPause) {
		if err = flock(f); err == nil || time.Since(began) > dying {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("devbroker: %s is in use by another process: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// logger gives kfake's warnings to slog: it logs topics, groups and errors, no records.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("broker: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("broker: " + fmt.Sprintf(format, args...))
	}
}
