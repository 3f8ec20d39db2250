package bustest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"tributary.dev/libs/bus"
)

// Kafka's numbers of requests, for LoseAnswers.
const (
	Produce      int16 = 0
	OffsetCommit int16 = 8
)

// Proxy stands between a bus and its brokers, connection by connection, and does what networks do.
// Give its Dial to bus.Config, or its Through to Cluster.Open.
type Proxy struct {
	mu    sync.Mutex
	cut   bool
	stall chan struct{} // open while answers are held back, else nil
	lose  map[int16]int
	lost  map[int16]int
	conns map[*proxied]struct{}
	wg    sync.WaitGroup
}

// NewProxy gives one that lets everything pass.
func NewProxy(t testing.TB) *Proxy {
	p := &Proxy{lose: map[int16]int{}, lost: map[int16]int{}, conns: map[*proxied]struct{}{}}
	t.Cleanup(func() { p.Cut(); p.wg.Wait() })
	return p
}

// Through makes a bus use the proxy.
func (p *Proxy) Through(cfg *bus.Config) { cfg.Dial = p.Dial }

// Cut breaks all connections and refuses new ones until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.release()
	for c := range p.conns {
		c.close()
	}
}

// Stall holds all answers back until Mend or Cut: the brokers get the requests, nobody hears of it.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stall == nil {
		p.stall = make(chan struct{})
	}
}

// Mend ends a Cut or a Stall.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	p.release()
}

func (p *Proxy) release() {
	if p.stall != nil {
		close(p.stall)
		p.stall = nil
	}
}

// LoseAnswers lets the next n requests of this kind reach the broker, and breaks the connection instead
// of handing its answer back.
func (p *Proxy) LoseAnswers(kind int16, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose[kind] = n
}

// Lost is how many answers of a kind were lost so far.
func (p *Proxy) Lost(kind int16) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost[kind]
}

// Dial connects to addr through the proxy.
func (p *Proxy) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("cut by the proxy")}
	}
	var d net.Dialer
	broker, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	c := &proxied{proxy: p, inner: inner, broker: broker, kinds: map[int32]int16{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("cut by the proxy")}
	}
	p.conns[c] = struct{}{}
	p.wg.Add(2)
	go c.requests()
	go c.answers()
	return client, nil
}

// proxied is one connection.
type proxied struct {
	proxy         *Proxy
	inner, broker net.Conn

	mu    sync.Mutex
	kinds map[int32]int16 // by correlation id
}

func (c *proxied) close() {
	c.inner.Close()
	c.broker.Close()
}

func (c *proxied) end() {
	c.close()
	c.proxy.mu.Lock()
	delete(c.proxy.conns, c)
	c.proxy.mu.Unlock()
	c.proxy.wg.Done()
}

func (c *proxied) requests() {
	defer c.end()
	for {
		frame, err := readFrame(c.inner)
		if err != nil || len(frame) < 12 {
			return
		}
		// size, kind, version, correlation id
		c.mu.Lock()
		c.kinds[int32(binary.BigEndian.Uint32(frame[8:]))] = int16(binary.BigEndian.Uint16(frame[4:]))
		c.mu.Unlock()
		if _, err := c.broker.Write(frame); err != nil {
			return
		}
	}
}

func (c *proxied) answers() {
	defer c.end()
	for {
		frame, err := readFrame(c.broker)
		if err != nil || len(frame) < 8 {
			return
		}
		id := int32(binary.BigEndian.Uint32(frame[4:]))
		c.mu.Lock()
		kind, known := c.kinds[id]
		delete(c.kinds, id)
		c.mu.Unlock()
		if known && c.proxy.loses(kind) {
			return
		}
		c.proxy.mu.Lock()
		stall := c.proxy.stall
		c.proxy.mu.Unlock()
		if stall != nil {
			<-stall
		}
		if _, err := c.inner.Write(frame); err != nil {
			return
		}
	}
}

func (p *Proxy) loses(kind int16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose[kind] == 0 {
		return false
	}
	p.lose[kind]--
	p.lost[kind]++
	return true
}

// readFrame reads a request or an answer with the four bytes of its size.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 64<<20 {
		return nil, errors.New("bustest: not a Kafka frame")
	}
	frame := make([]byte, 4+n)
	copy(frame, size[:])
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}
