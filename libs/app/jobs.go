package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tributary.dev/libs/telemetry"
)

// stage is a group of jobs that start in order and stop together.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu sync.Mutex
	//bound:exempt one a job, and jobs are what services declare
	running map[string]int
}

// How long a job that ended before its time is left alone.
const (
	firstRestart   = 100 * time.Millisecond
	longestRestart = 10 * time.Second
)

func newStage() *stage {
	s := &stage{running: map[string]int{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// start runs a job, and again whenever it ends before its time.
func (s *stage) start(t *telemetry.Telemetry, service string, j Job) error {
	restarts, err := t.Meter.Int64Counter("tributary_job_restarts_total",
		metric.WithDescription("Jobs that ended before their time and were started again."))
	if err != nil {
		return err
	}
	name := service + "/" + j.Name
	s.count(name, 1)
	//bound:goroutines jobs of the services | one each | one that returns or panics is started again
	s.done.Go(func() {
		defer s.count(name, -1)
		//bound:retry a job that ended before its time | after {firstRestart}, growing to {longestRestart} | goes on, counted and logged
		pause := backoff.NewExponentialBackOff()
		pause.InitialInterval, pause.MaxInterval = firstRestart, longestRestart
		for s.ctx.Err() == nil {
			began := time.Now()
			err := call(s.ctx, t.Log, j)
			if s.ctx.Err() != nil {
				return
			}
			if time.Since(began) > time.Minute {
				pause.Reset()
			}
			wait := pause.NextBackOff()
			restarts.Add(s.ctx, 1, metric.WithAttributes(attribute.String("job", j.Name)))
			t.Log.ErrorContext(s.ctx, "job ended before its time", "job", j.Name, "again_in_ms", wait.Milliseconds(), "error", err)
			//bound:exempt the pause above
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
				timer.Stop()
			}
		}
	})
	return nil
}

// stop ends the jobs and waits for them; an error names those that were still running when ctx ended.
func (s *stage) stop(ctx context.Context) error {
	s.cancel()
	ended := make(chan struct{})
	//bound:exempt ends with the jobs; stop gives up on both
	go func() {
		s.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("did not stop in time: %s", strings.Join(s.names(), ", "))
	}
}

func (s *stage) count(name string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[name] += by; s.running[name] == 0 {
		delete(s.running, name)
	}
}

func (s *stage) names() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.running {
		names = append(names, name)
	}
	return names
}

var errEnded = errors.New("app: the job returned")

// call runs a job once; a panic is an error, without the panic's value.
func call(ctx context.Context, log *slog.Logger, j Job) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.ErrorContext(ctx, "panic", "job", j.Name, "value_type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = errors.New("app: the job panicked")
		}
	}()
	if err := j.Run(ctx); err != nil {
		return err
	}
	return errEnded
}
