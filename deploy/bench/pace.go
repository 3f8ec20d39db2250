package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// paced calls do every 1/perSecond for a while, up to workers at once, each in a worker's own turn. Where the
// workers don't keep up it is an error: what is late would not be measured.
func paced(ctx context.Context, perSecond, workers int, window time.Duration, do func(ctx context.Context, worker, n int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	turns := make(chan int, 2*perSecond) // two seconds' worth may wait
	errs := make([]error, workers)
	var working sync.WaitGroup
	for worker := range workers {
		working.Go(func() {
			for n := range turns {
				if errs[worker] = do(ctx, worker, n); errs[worker] != nil {
					cancel()
					return
				}
			}
		})
	}
	began, every := time.Now(), time.Second/time.Duration(perSecond)
	err := func() error {
		defer close(turns)
		for n := range int(window / every) {
			if wait := time.Until(began.Add(time.Duration(n) * every)); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			select {
			case turns <- n:
			case <-ctx.Done():
				return ctx.Err()
			default:
				return fmt.Errorf("%d a second are more than can be kept up", perSecond)
			}
		}
		return nil
	}()
	working.Wait()
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return err
}

// caller makes one HTTP request after the other over one kept connection.
type caller struct {
	conn   net.Conn
	answer []byte
}

func dialCaller(ctx context.Context, address string) (*caller, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn}, nil
}

// call sends a whole request and gives its answer's status.
func (c *caller) call(request []byte) (status int, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	var buffer [4096]byte
	for c.answer = c.answer[:0]; ; {
		n, err := c.conn.Read(buffer[:])
		if err != nil {
			return 0, err
		}
		c.answer = append(c.answer, buffer[:n]...)
		if status, whole, err := mesh.Answered(c.answer); err != nil || whole {
			return status, err
		}
	}
}
