package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"tributary.dev/deploy/mesh"
)

// load is what a run of requests came to.
type load struct {
	accepted int           // answered 2xx within the time
	refused  int           // answered otherwise
	took     time.Duration // the time
	latency  []float64     // of each accepted one, in milliseconds
}

func (l load) perSecond() float64 { return float64(l.accepted) / l.took.Seconds() }

// answerWithin is how long an answer may take before the run counts as broken.
const answerWithin = 30 * time.Second

// connection is one that is kept, with at most one request on its way.
type connection struct {
	fd     int
	answer []byte
	sent   time.Time
}

// hammer sends requests over a number of kept connections, on each the next as soon as the last is answered,
// for a while; the answers still on their way then are waited for and not counted. All of it is one thread
// on epoll, without net/http: what measures shares the processor with what is measured.
func hammer(ctx context.Context, address string, connections int, window time.Duration, next func(now time.Time) []byte) (load, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return load{}, os.NewSyscallError("epoll_create1", err)
	}
	defer syscall.Close(poll)
	open := make([]*connection, connections)
	for i := range open {
		c, err := dial(ctx, address)
		if err != nil {
			return load{}, err
		}
		defer syscall.Close(c.fd)
		open[i] = c
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, c.fd, &event); err != nil {
			return load{}, os.NewSyscallError("epoll_ctl", err)
		}
	}
	l := load{}
	began := time.Now()
	until := began.Add(window)
	waiting := 0
	for _, c := range open {
		if err := c.send(next(time.Now())); err != nil {
			return l, err
		}
		waiting++
	}
	events := make([]syscall.EpollEvent, connections)
	for waiting > 0 {
		if ctx.Err() != nil {
			return l, ctx.Err()
		}
		n, err := syscall.EpollWait(poll, events, int(answerWithin.Milliseconds()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return l, os.NewSyscallError("epoll_wait", err)
		}
		if n == 0 {
			return l, fmt.Errorf("%d answers did not come within %s", waiting, answerWithin)
		}
		for _, event := range events[:n] {
			c := open[event.Fd]
			status, err := c.receive()
			if err != nil {
				return l, err
			}
			if status == 0 {
				continue
			}
			waiting--
			now := time.Now()
			if now.After(until) {
				continue
			}
			if status/100 == 2 {
				l.accepted++
				l.latency = append(l.latency, now.Sub(c.sent).Seconds()*1e3)
			} else {
				l.refused++
			}
			if err := c.send(next(now)); err != nil {
				return l, err
			}
			waiting++
		}
	}
	l.took = window
	return l, nil
}

// dial opens a connection that no call blocks on.
func dial(ctx context.Context, address string) (*connection, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(of uintptr) { fd, dupErr = syscall.Dup(int(of)) }); err != nil || dupErr != nil {
		return nil, errors.Join(err, dupErr)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return &connection{fd: fd}, nil
}

// send writes a request. There is room for it: the one before was answered.
func (c *connection) send(request []byte) error {
	c.sent = time.Now()
	n, err := syscall.Write(c.fd, request)
	if err == nil && n < len(request) {
		err = io.ErrShortWrite
	}
	return os.NewSyscallError("write", err)
}

// receive reads what has come; 0 where the answer is not whole yet.
func (c *connection) receive() (status int, err error) {
	var buffer [4096]byte
	n, err := syscall.Read(c.fd, buffer[:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, errors.New("the server closed a connection")
	}
	c.answer = append(c.answer, buffer[:n]...)
	status, whole, err := mesh.Answered(c.answer)
	if err != nil || !whole {
		return 0, err
	}
	c.answer = c.answer[:0]
	return status, nil
}
