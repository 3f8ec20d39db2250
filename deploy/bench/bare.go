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
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
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
}

// serveBare is a process of its own: the least that takes Slack's webhooks in and loses none. It reads,
// checks the signature, and writes as many bytes as the mesh does. It is given its order on stdin, prints
// its address, and serves until it is told to end.
func serveBare(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	var order bareOrder
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return err
	}
	b := (&env{kafka: order.Brokers}).brokers()
	defer b.close()
	w := b.writer()
	defer w.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if checks[order.Check] == nil {
		return fmt.Errorf("no check is called %q", order.Check)
	}
	server := &http.Server{Handler: order.handler(w), ReadHeaderTimeout: 5 * time.Second}
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

func (o *bareOrder) handler(w *kafka.Writer) http.HandlerFunc {
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
		err = w.WriteMessages(r.Context(), kafka.Message{Topic: o.Topic, Key: []byte(key), Value: value, Headers: o.Headers})
		if err != nil {
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
