package mesh

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Connection is one that a provider keeps and sends webhooks over, one after the other. It does without net/http's
// client: what sends to the mesh shares the processor with it.
type Connection struct {
	host     string
	conn     net.Conn // nil: the next webhook dials
	used     time.Time
	request  bytes.Buffer
	received []byte
}

const (
	// answerWithin is what an answer is waited for.
	answerWithin = 10 * time.Second
	// keptFor is how long a connection is kept unused: less than a server keeps it.
	keptFor = 30 * time.Second
)

// Connection to the mesh, which is dialled when it is used.
func (c *Client) Connection() *Connection {
	return &Connection{host: strings.TrimPrefix(c.url, "http://"), received: make([]byte, 0, 4<<10)}
}

// Close ends it.
func (k *Connection) Close() {
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}

// Webhook delivers a provider's request and gives the status.
func (k *Connection) Webhook(ctx context.Context, path string, header http.Header, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if time.Since(k.used) > keptFor {
		k.Close()
	}
	if k.conn == nil {
		if k.conn, err = new(net.Dialer).DialContext(ctx, "tcp", k.host); err != nil {
			k.conn = nil
			return 0, err
		}
	}
	conn := k.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	status, last, err := k.exchange(path, header, body)
	if k.used = time.Now(); !stop() || last || err != nil {
		k.Close()
	}
	return status, err
}

// exchange writes a request and reads its answer; last tells that the server closes then.
func (k *Connection) exchange(path string, header http.Header, body []byte) (status int, last bool, err error) {
	k.request.Reset()
	fmt.Fprintf(&k.request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", path, k.host, len(body))
	for name, values := range header {
		for _, value := range values {
			fmt.Fprintf(&k.request, "%s: %s\r\n", name, value)
		}
	}
	k.request.WriteString("\r\n")
	k.request.Write(body)
	if _, err := k.conn.Write(k.request.Bytes()); err != nil {
		return 0, false, err
	}
	var piece [4 << 10]byte
	for k.received = k.received[:0]; ; {
		n, err := k.conn.Read(piece[:])
		if err != nil {
			return 0, false, err
		}
		k.received = append(k.received, piece[:n]...)
		if status, whole, err := Answered(k.received); err != nil || whole {
			return status, bytes.Contains(k.received, []byte("\r\nConnection: close\r\n")), err
		}
	}
}

// Answered reads an HTTP/1.1 answer of known length; whole tells whether all of it is there.
func Answered(answer []byte) (status int, whole bool, err error) {
	head, body, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !found {
		return 0, false, nil
	}
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, false, fmt.Errorf("no HTTP/1.1 answer: %.40q", head)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, fmt.Errorf("no status: %.40q", head)
	}
	const field = "\r\nContent-Length: "
	at := bytes.Index(head, []byte(field))
	if at < 0 {
		return 0, false, fmt.Errorf("an answer (%d) without its length", status)
	}
	digits, _, _ := bytes.Cut(head[at+len(field):], []byte("\r\n"))
	length, err := strconv.Atoi(string(digits))
	return status, len(body) >= length, err
}
