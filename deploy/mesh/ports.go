package mesh

import (
	"net"
	"strconv"
	"sync"
)

// freeAddress is a loopback address with a freePort.
func freeAddress() (url, address string) {
	address = loopback(freePort())
	return "http://" + address, address
}

func loopback(port string) string { return net.JoinHostPort("127.0.0.1", port) }

// freePort is a port that nobody listens on, and that is given to nobody else, by this process or by another that
// asks here: whoever listens there may be killed and started again.
func freePort() (port string) {
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next == ports.end {
			ports.claim()
		}
		port = strconv.Itoa(ports.next)
		ports.next++
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			_ = l.Close() // nobody came by it
			return port
		}
	}
}

// Ports are below those that systems give to connections. A process claims a block of them by listening on the
// first, until it ends.
const (
	firstPort, lastPort = 20_000, 32_700
	portBlock           = 100
)

var ports blocks

type blocks struct {
	sync.Mutex
	next, end int            // the rest of the block claimed last
	claims    []net.Listener // one a block
}

// claim claims a block. 127 of them there are, and few processes want one.
func (b *blocks) claim() {
	for first := firstPort; ; first += portBlock {
		if first+portBlock > lastPort {
			first = firstPort
		}
		if l, err := net.Listen("tcp", loopback(strconv.Itoa(first))); err == nil {
			b.claims = append(b.claims, l)
			b.next, b.end = first+1, first+portBlock
			return
		}
	}
}
