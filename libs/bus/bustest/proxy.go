package bustest

import (
	"testing"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/wire"
)

// Proxy is a wire between a bus and its brokers. Give its Dial to bus.Config, or its Through to Cluster.Open.
type Proxy struct{ wire.Wire }

// NewProxy gives one that lets everything pass.
func NewProxy(t testing.TB) *Proxy {
	p := &Proxy{wire.Wire{Kafka: true}}
	t.Cleanup(p.Close)
	return p
}

// Through makes a bus use the proxy.
func (p *Proxy) Through(cfg *bus.Config) { cfg.Dial = p.Dial }
