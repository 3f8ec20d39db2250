package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
)

// cadence is how often each partition is given a record while members come and go.
const cadence = 10 * time.Millisecond

// rebalance is the longest that any partition stood still while members of a group came and went, one at a
// time, with two others that stayed.
func rebalance(ctx context.Context, e *env) (figures []figure, err error) {
	prefix := "bench_rebalance_" + strconv.FormatInt(time.Now().UnixNano(), 36) + "."
	g := &group{env: e, prefix: prefix, last: map[int]time.Time{}}
	defer func() { err = errors.Join(err, g.close()) }()
	for range 4 { // who publishes, two who stay, one who comes and goes
		b, err := bus.Open(ctx, bus.Config{Brokers: e.kafka, Prefix: prefix, ClientID: "bench", Partitions: partitions})
		if err != nil {
			return nil, err
		}
		g.buses = append(g.buses, b)
	}
	if err := g.buses[0].EnsureTopics(ctx, bus.Topic{Name: "events"}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var publishing error
	running.Go(func() { publishing = g.publish(ctx) })
	for _, b := range g.buses[1:3] {
		running.Go(func() { _ = g.member(ctx, b, nil) })
	}
	if err := g.flowing(ctx); err != nil {
		return nil, err
	}
	g.longest()
	if err := wait(ctx, time.Second); err != nil {
		return nil, err
	}
	still := g.longest()
	turns := e.size(10)
	for turn := range turns {
		joined, leave := make(chan struct{}), make(chan struct{})
		memberCtx, end := context.WithCancel(ctx)
		running.Go(func() {
			defer close(leave)
			_ = g.member(memberCtx, g.buses[3], sync.OnceFunc(func() { close(joined) }))
		})
		select {
		case <-joined:
		case <-time.After(time.Minute):
			end()
			return nil, errors.New("a member that joined was given nothing")
		}
		if err := g.flowing(ctx); err != nil {
			end()
			return nil, err
		}
		join := g.longest()
		end()
		<-leave
		if err := g.flowing(ctx); err != nil {
			return nil, err
		}
		left := g.longest()
		e.say("   %d/%d: %.0f ms as one joined, %.0f ms as it left", turn+1, turns, join, left)
		g.worst = max(g.worst, join, left)
	}
	cancel()
	running.Wait()
	return []figure{
		{Name: "rebalance_pause_ms_max", Value: g.worst, Unit: "ms"},
		{Name: "steady_pause_ms_max", Value: still, Unit: "ms"},
	}, publishing
}

// group is one whose members come and go.
type group struct {
	*env
	prefix string
	buses  []*bus.Bus

	mu    sync.Mutex
	last  map[int]time.Time // when each partition last moved
	pause float64           // the longest between two of its moves, in milliseconds
	worst float64
}

// publish gives every partition a record at the cadence until ctx ends.
func (g *group) publish(ctx context.Context) error {
	keys := map[int]string{}
	for n := 0; len(keys) < partitions; n++ {
		key := strconv.Itoa(n)
		p, err := g.buses[0].PartitionFor(ctx, "events", key)
		if err != nil {
			return err
		}
		keys[p] = key
	}
	var msgs []bus.Message
	for _, key := range keys {
		msgs = append(msgs, bus.Message{Topic: "events", Key: key, Value: make([]byte, recordBytes)})
	}
	tick := time.NewTicker(cadence)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := g.buses[0].Publish(ctx, msgs...); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// member belongs to the group until ctx ends; handled is called with each batch.
func (g *group) member(ctx context.Context, b *bus.Bus, handled func()) error {
	return b.Subscribe(ctx, bus.Subscription{Group: "members", Topics: []string{"events"}, Handle: func(_ context.Context, batch []bus.Record) error {
		now, p := time.Now(), batch[0].Partition
		g.mu.Lock()
		if last, moved := g.last[p]; moved {
			g.pause = max(g.pause, now.Sub(last).Seconds()*1e3)
		}
		g.last[p] = now
		g.mu.Unlock()
		if handled != nil {
			handled()
		}
		return nil
	}})
}

// longest pause since it was last asked for.
func (g *group) longest() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	pause := g.pause
	g.pause = 0
	return pause
}

// flowing waits until every partition has moved after now, and a second longer: a pause is known at its end.
func (g *group) flowing(ctx context.Context) error {
	asked := time.Now()
	for deadline := asked.Add(time.Minute); time.Now().Before(deadline); {
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		g.mu.Lock()
		moved := 0
		for _, at := range g.last {
			if at.After(asked) {
				moved++
			}
		}
		g.mu.Unlock()
		if moved == partitions {
			return wait(ctx, time.Second)
		}
	}
	return fmt.Errorf("a partition has stood still for a minute")
}

func (g *group) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, b := range g.buses {
		errs = append(errs, b.Close(ctx))
	}
	return errors.Join(append(errs, bustest.DeleteTopics(ctx, g.kafka, g.prefix))...)
}
