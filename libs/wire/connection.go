package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// held is how many requests, or answers, wait on a connection that is stalled or delayed; then its sender
	// is held up.
	held = 64
	// piece is how much is read at once of what has no frames.
	piece = 32 << 10
	// maxFrame is what no request or answer of Kafka exceeds.
	maxFrame = 64 << 20
)

// connection is one of a Wire.
type connection struct {
	w              *Wire
	client, server net.Conn
	done           chan struct{} // closed by close
	once           sync.Once

	mu    sync.Mutex
	kinds map[int32]int16 // of Kafka's requests that are not answered, by correlation id
}

// passing is a request, an answer or a piece of one.
type passing struct {
	bytes   []byte
	arrived time.Time
}

// carry connects client and server until either ends; false if the wire is cut, and both are closed.
func (w *Wire) carry(client, server net.Conn) bool {
	c := &connection{w: w, client: client, server: server, done: make(chan struct{}), kinds: map[int32]int16{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.closed {
		c.close()
		return false
	}
	if w.connections == nil {
		w.connections = map[*connection]struct{}{}
	}
	w.connections[c] = struct{}{}
	for _, way := range []struct {
		from, to net.Conn
		d        direction
	}{{client, server, requests}, {server, client, answers}} {
		line := make(chan passing, held)
		w.running.Go(func() { defer close(line); c.read(way.from, line) })
		w.running.Go(func() { defer c.end(); c.write(way.to, way.d, line) })
	}
	return true
}

// close breaks both ends. What stalls it is let go of.
func (c *connection) close() {
	c.once.Do(func() {
		close(c.done)
		c.client.Close()
		c.server.Close()
	})
}

func (c *connection) end() {
	c.close()
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	delete(c.w.connections, c)
}

func (c *connection) read(from net.Conn, line chan<- passing) {
	for {
		next, err := c.next(from)
		if len(next) > 0 {
			select {
			case line <- passing{next, time.Now()}:
			case <-c.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// next frame, or piece.
func (c *connection) next(from net.Conn) ([]byte, error) {
	if c.w.Kafka {
		return readFrame(from)
	}
	b := make([]byte, piece)
	n, err := from.Read(b)
	return b[:n], err
}

// write hands on what was read, when and as far as the wire lets it pass. It returns when there is no more.
func (c *connection) write(to net.Conn, d direction, line <-chan passing) {
	for p := range line {
		kind := c.kind(p.bytes, d)
		if !c.wait(p.arrived, d, kind) {
			return
		}
		whole := len(p.bytes)
		if d == answers {
			whole = c.w.lets(kind, whole)
		}
		if _, err := to.Write(p.bytes[:whole]); err != nil || whole < len(p.bytes) {
			return
		}
	}
}

// wait until something may pass that arrived at a time; false if the connection ended before.
func (c *connection) wait(arrived time.Time, d direction, kind int16) bool {
	for {
		c.w.mu.Lock()
		stalled, late := c.w.stalled[d], time.Until(arrived.Add(c.w.delay+c.w.later[kind]))
		c.w.mu.Unlock()
		switch {
		case stalled != nil:
			select {
			case <-stalled:
			case <-c.done:
				return false
			}
		case late > 0:
			timer := time.NewTimer(late)
			select {
			case <-timer.C:
			case <-c.done:
				timer.Stop()
				return false
			}
		default:
			return true
		}
	}
}

// lets says how much of an answer passes.
func (w *Wire) lets(kind int16, whole int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.lose[kind] > 0:
		w.lose[kind]--
		w.lost[kind]++
		return 0
	case w.breaks > 0:
		w.breaks--
		w.broken++
		return whole / 2
	}
	return whole
}

const noKind int16 = -1

// kind of Kafka's request that this is, or that it answers.
func (c *connection) kind(frame []byte, d direction) int16 {
	if !c.w.Kafka {
		return noKind
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == requests { // size, kind, version, correlation id
		if len(frame) >= 12 {
			c.kinds[int32(binary.BigEndian.Uint32(frame[8:]))] = int16(binary.BigEndian.Uint16(frame[4:]))
		}
		return noKind
	}
	if len(frame) < 8 {
		return noKind
	}
	id := int32(binary.BigEndian.Uint32(frame[4:]))
	kind, known := c.kinds[id]
	delete(c.kinds, id)
	if !known {
		return noKind
	}
	return kind
}

// readFrame reads a request or an answer of Kafka with the four bytes of its size.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, errors.New("wire: not a Kafka frame")
	}
	frame := make([]byte, 4+n)
	copy(frame, size[:])
	if _, err := io.ReadFull(r, frame[4:]); err != nil {
		return nil, err
	}
	return frame, nil
}
