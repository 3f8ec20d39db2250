package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	platform "tributary.dev/libs/app"
	"tributary.dev/libs/bus"
)

// bareOrder is what a bare handler is told: where to write, and what the mesh wrote for the same webhooks.
type bareOrder struct {
	Brokers []string
	Topic   string
	Value   []byte
	Headers []kafka.Header
	Keys    []string
	// Check is how a webhook shows whose it is: one of the checks; Secret what it is signed with.
	Check, Secret string
	// Raw writes what came, instead of as much as the mesh makes of it.
	Raw bool
	// Bus has it written by the mesh's own client, to the topic without this prefix; empty: by kafka-go's Writer.
	Bus string
}

// write is how a bare handler writes a record.
type write func(ctx context.Context, key string, value []byte) error

// writer gives the order's way to write, and what ends it.
func (o *bareOrder) writer(ctx context.Context) (write, func() error, error) {
	if o.Bus != "" {
		b, err := bus.Open(ctx, bus.Config{Brokers: o.Brokers, Prefix: o.Bus})
		if err != nil {
			return nil, nil, err
		}
		var headers []bus.Header
		for _, h := range o.Headers {
			headers = append(headers, bus.Header(h))
		}
		topic := strings.TrimPrefix(o.Topic, o.Bus)
		write := func(ctx context.Context, key string, value []byte) error {
			return b.Publish(ctx, bus.Message{Topic: topic, Key: key, Value: value, Headers: headers})
		}
		return write, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			return b.Close(ctx)
		}, nil
	}
	w := (&env{kafka: o.Brokers}).brokers().writer()
	write := func(ctx context.Context, key string, value []byte) error {
		return w.WriteMessages(ctx, kafka.Message{Topic: o.Topic, Key: []byte(key), Value: value, Headers: o.Headers})
	}
	return write, w.Close, nil
}

// serveBare is a process of its own: the least that takes Slack's webhooks in and loses none. It reads,
// checks the signature, and writes as many bytes as the mesh does. It is given its order on stdin, prints
// its address, and serves until it is told to end.
func serveBare(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	var order bareOrder
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return err
	}
	write, end, err := order.writer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	defer runtime.KeepAlive(make([]byte, platform.HeapFloor)) // as the mesh's services have it: the collector runs as seldom
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if checks[order.Check] == nil {
		return fmt.Errorf("no check is called %q", order.Check)
	}
	server := &http.Server{Handler: order.handler(write), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	fmt.Fprintln(out, l.Addr())
	select {
	case <-ctx.Done():
		return server.Close()
	case err := <-ended:
		return err
	}
}

func (o *bareOrder) handler(write write) http.HandlerFunc {
	var n atomic.Int64
	check := checks[o.Check]
	return func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, "body", http.StatusBadRequest)
			return
		}
		if !check(o.Secret, r, body) {
			http.Error(rw, "signature", http.StatusUnauthorized)
			return
		}
		value := o.Value
		if o.Raw {
			value = body
		}
		key := o.Keys[int(n.Add(1))%len(o.Keys)]
		if err := write(r.Context(), key, value); err != nil {
			http.Error(rw, "broker", http.StatusServiceUnavailable)
		}
	}
}

// bare is a bare handler that runs.
type bare struct {
	address string
	cmd     *exec.Cmd
}

// startBare starts this program anew as a bare handler.
func startBare(ctx context.Context, order bareOrder) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, bareArgument)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return &bare{strings.TrimSpace(address), cmd}, nil
}

func (b *bare) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return b.cmd.Wait()
}
