// Package wire stands between a client and a server, for tests and proofs, and does what networks do: it
// cuts, stalls, delays, loses answers and breaks off in their middle.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Kafka's numbers of requests, for LoseAnswers and DelayAnswers.
const (
	Produce      int16 = 0
	OffsetCommit int16 = 8
	Heartbeat    int16 = 12
)

// Wire carries connections, each with a goroutine to read and one to write in both directions. The zero value
// lets everything pass; it is used by Dial, or listens by Listen. Safe for concurrent use.
type Wire struct {
	// Kafka: what passes is Kafka's requests and answers, each whole; else it is bytes as they come. For
	// LoseAnswers and DelayAnswers, and to be set before the first connection.
	Kafka bool

	mu          sync.Mutex
	cut         bool
	stalled     [2]chan struct{} // open while requests, or answers, are held back; else nil
	delay       time.Duration
	later       map[int16]time.Duration
	breaks      int
	broken      int
	lose, lost  map[int16]int
	connections map[*connection]struct{}
	listener    net.Listener
	closed      bool
	running     sync.WaitGroup
}

// direction of what passes.
type direction int

const (
	requests direction = iota
	answers
)

// Cut breaks all connections and refuses new ones until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	w.release()
	for c := range w.connections {
		reset(c.client)
		c.close()
	}
}

// Stall holds everything back until Mend or Cut: connections stay, and nobody hears of anything.
func (w *Wire) Stall() { w.stall(requests, answers) }

// StallAnswers holds all answers back until Mend or Cut: the server gets the requests, nobody hears of it.
func (w *Wire) StallAnswers() { w.stall(answers) }

func (w *Wire) stall(which ...direction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range which {
		if w.stalled[d] == nil {
			w.stalled[d] = make(chan struct{})
		}
	}
}

// Delay lets everything pass that much later, both ways, until Mend.
func (w *Wire) Delay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = d
}

// DelayAnswers lets answers to this kind of request pass that much later, until Mend; behind it on a connection,
// all others.
func (w *Wire) DelayAnswers(kind int16, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.later == nil {
		w.later = map[int16]time.Duration{}
	}
	w.later[kind] = d
}

// Break hands half of each of the next n answers over, and then breaks its connection.
func (w *Wire) Break(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaks = n
}

// Broken is how many answers were broken off so far.
func (w *Wire) Broken() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

// LoseAnswers lets the next n requests of this kind reach the broker, and breaks the connection instead
// of handing the answer back.
func (w *Wire) LoseAnswers(kind int16, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lose == nil {
		w.lose, w.lost = map[int16]int{}, map[int16]int{}
	}
	w.lose[kind] = n
}

// Lost is how many answers of a kind were lost so far.
func (w *Wire) Lost(kind int16) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost[kind]
}

// Mend ends whatever was done and lets everything pass from now on.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.delay, w.breaks = false, 0, 0
	clear(w.lose)
	clear(w.later)
	w.release()
}

func (w *Wire) release() {
	for d, held := range w.stalled {
		if held != nil {
			close(held)
			w.stalled[d] = nil
		}
	}
}

// Dial connects to an address through the wire.
func (w *Wire) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if w.refuses() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	var d net.Dialer
	server, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	if !w.carry(inner, server) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	return client, nil
}

// Listen takes connections at a loopback address and carries each to a server that connect gives, until
// Close. One that connect can't give is refused.
func (w *Wire) Listen(addr string, connect func(ctx context.Context) (net.Conn, error)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = l
	w.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			w.running.Go(func() { w.connect(client, connect) })
		}
	})
	return nil
}

// connectTimeout is what a server's machine is given to answer.
const connectTimeout = 5 * time.Second

func (w *Wire) connect(client net.Conn, connect func(ctx context.Context) (net.Conn, error)) {
	if w.refuses() {
		reset(client)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	server, err := connect(ctx)
	if err != nil {
		reset(client)
		return
	}
	w.carry(client, server)
}

// Addr is where it listens.
func (w *Wire) Addr() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.listener.Addr().String()
}

// Close breaks everything and returns when nothing of it runs.
func (w *Wire) Close() {
	w.mu.Lock()
	w.closed = true
	l := w.listener
	w.mu.Unlock()
	if l != nil {
		_ = l.Close() // closed before
	}
	w.Cut()
	w.running.Wait()
}

var errCut = errors.New("cut by the wire")

func (w *Wire) refuses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut || w.closed
}

// reset closes a connection as a machine does that does not know it.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else it ends in order
	}
	c.Close()
}
