package wire

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo is a server that answers with what it gets, and tells it.
func echo(t *testing.T) (connect func(ctx context.Context) (net.Conn, error), got chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	got = make(chan []byte, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 1<<10); ; {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					got <- append([]byte(nil), b[:n]...)
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}, got
}

func listen(t *testing.T, w *Wire) (dial func() net.Conn, got chan []byte) {
	t.Helper()
	connect, got := echo(t)
	require.NoError(t, w.Listen("127.0.0.1:0", connect))
	t.Cleanup(w.Close)
	return func() net.Conn {
		c, err := net.Dial("tcp", w.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		return c
	}, got
}

func ask(t *testing.T, c net.Conn, what string) {
	t.Helper()
	_, err := io.WriteString(c, what)
	require.NoError(t, err)
}

func answer(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, want, string(b))
}

func TestAWireThatIsCutBreaksAndRefusesUntilItIsMended(t *testing.T) {
	w := &Wire{}
	dial, _ := listen(t, w)
	c := dial()
	ask(t, c, "one")
	answer(t, c, "one")
	w.Cut()
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	if refused, err := net.Dial("tcp", w.Addr()); err == nil { // else it was reset before the dial returned
		_, err = refused.Read(make([]byte, 1))
		require.Error(t, err)
		refused.Close()
	}
	w.Mend()
	c = dial()
	ask(t, c, "two")
	answer(t, c, "two")
}

func TestAWireThatStallsLosesNothing(t *testing.T) {
	w := &Wire{}
	dial, got := listen(t, w)
	c := dial()
	w.StallAnswers()
	ask(t, c, "one")
	require.Equal(t, "one", string(<-got))
	w.Stall()
	ask(t, c, "two")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "timeout")
	require.Empty(t, got)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	w.Mend()
	answer(t, c, "onetwo")
}

func TestAWireThatDelaysKeepsTheOrderAndTheRate(t *testing.T) {
	const late = 100 * time.Millisecond
	w := &Wire{}
	dial, _ := listen(t, w)
	c := dial()
	w.Delay(late)
	began := time.Now()
	for _, what := range []string{"one", "two", "three"} {
		ask(t, c, what)
		time.Sleep(10 * time.Millisecond) // so that they are pieces of their own
	}
	answer(t, c, "onetwothree")
	require.GreaterOrEqual(t, time.Since(began), 2*late)
	require.Less(t, time.Since(began), 4*late, "each waits for itself, not for those before")
}

func TestAWireBreaksAnAnswerOffInItsMiddle(t *testing.T) {
	w := &Wire{}
	dial, _ := listen(t, w)
	c := dial()
	w.Break(1)
	ask(t, c, "123456")
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "123", string(rest))
	require.Equal(t, 1, w.Broken())
	c = dial()
	ask(t, c, "123456")
	answer(t, c, "123456")
}

// frame of Kafka: its answer begins with the correlation id, so the echo's is the request's own first word.
func frame(kind int16, id uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, 0)
	return binary.BigEndian.AppendUint32(b, id)
}

// broker answers each request with its correlation id.
func broker(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for {
					f, err := readFrame(c)
					if err != nil {
						return
					}
					c.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 4), binary.BigEndian.Uint32(f[8:])))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestAWireDelaysAnswersToOneKindOfRequest(t *testing.T) {
	w := &Wire{Kafka: true}
	defer w.Close()
	c, err := w.Dial(t.Context(), "tcp", broker(t))
	require.NoError(t, err)
	const late = 200 * time.Millisecond
	ask := func(kind int16) time.Duration {
		began := time.Now()
		_, err := c.Write(frame(kind, 1))
		require.NoError(t, err)
		_, err = readFrame(c)
		require.NoError(t, err)
		return time.Since(began)
	}
	w.DelayAnswers(Heartbeat, late)
	require.GreaterOrEqual(t, ask(Heartbeat), late)
	require.Less(t, ask(Produce), late)
	w.Mend()
	require.Less(t, ask(Heartbeat), late)
}

func TestAWireLosesAnswersToOneKindOfRequest(t *testing.T) {
	w := &Wire{Kafka: true}
	w.LoseAnswers(OffsetCommit, 1)
	defer w.Close()
	c, err := w.Dial(t.Context(), "tcp", broker(t))
	require.NoError(t, err)
	for id, kind := range []int16{Produce, 3, OffsetCommit} {
		_, err := c.Write(frame(kind, uint32(id)))
		require.NoError(t, err)
		got, err := readFrame(c)
		if kind != OffsetCommit {
			require.NoError(t, err)
			require.Equal(t, uint32(id), binary.BigEndian.Uint32(got[4:]))
			continue
		}
		require.Error(t, err)
		require.Equal(t, 1, w.Lost(OffsetCommit))
		require.Zero(t, w.Lost(Produce))
	}
}
