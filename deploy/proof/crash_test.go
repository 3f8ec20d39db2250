package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// TestKill9UnderLoad kills the mesh at random moments while webhooks arrive. Whatever was answered 2xx is
// there afterwards exactly once, in the provider's order.
func TestKill9UnderLoad(t *testing.T) {
	webhooks, threads, workers := 5000, 100, 16
	if testing.Short() {
		webhooks = 500
	}
	w := newWorld(t, nil)
	began := time.Now().Add(-time.Hour).Unix()
	// The model: thread -> texts in the order of their time stamps.
	model := make([][]string, threads)
	type arrival struct {
		id    string
		event map[string]any
	}
	arrivals := make([]arrival, webhooks)
	for i := range arrivals {
		thread := i % threads
		channel := fmt.Sprintf("C%04d", thread)
		root := fmt.Sprintf("%d.%06d", began+int64(thread), thread)
		ts, threadTS := fmt.Sprintf("%d.%06d", began+int64(i), i%1000000), root
		if i < threads {
			threadTS = ""
		}
		text := fmt.Sprintf("message %d of thread %d", i, thread)
		model[thread] = append(model[thread], text)
		arrivals[i] = arrival{fmt.Sprintf("Ev%06d", i), standin.SlackMessage(channel, "channel", fmt.Sprintf("U%04d", i%37), ts, threadTS, text)}
	}
	rand.Shuffle(len(arrivals), func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var accepted atomic.Int64
	queue := make(chan arrival)
	var providers sync.WaitGroup
	for range workers {
		providers.Go(func() {
			for a := range queue {
				if err := w.deliver(ctx, a.id, a.event); err != nil {
					t.Errorf("%s: %v", a.id, err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	done := make(chan struct{})
	var harm sync.WaitGroup
	kills := 0
	harm.Go(func() {
		for kills < 8 {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(200+rand.IntN(1500)) * time.Millisecond):
			}
			w.Kill()
			kills++
			if err := w.Start(ctx); err != nil {
				t.Errorf("start after kill %d: %v", kills, err)
				cancel()
				return
			}
		}
	})
	for _, a := range arrivals {
		select {
		case queue <- a:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	close(queue)
	providers.Wait()
	close(done)
	harm.Wait()
	t.Logf("%d webhooks accepted through %d kills", accepted.Load(), kills)
	if int(accepted.Load()) != webhooks || kills == 0 {
		t.Fatalf("%d of %d accepted, %d kills", accepted.Load(), webhooks, kills)
	}
	if err := mesh.Eventually(ctx, time.Minute, func() error { return w.holds(ctx, model) }); err != nil {
		t.Fatal(err)
	}
}

// holds compares every conversation the API shows with the model.
func (w *world) holds(ctx context.Context, model [][]string) error {
	want := map[string]bool{}
	for _, texts := range model {
		want[fmt.Sprintf("%q", texts)] = true
	}
	conversations, err := w.all(ctx, "/v1/conversations?limit=200")
	if err != nil {
		return err
	}
	if len(conversations) != len(model) {
		return fmt.Errorf("%d conversations, want %d", len(conversations), len(model))
	}
	for _, c := range conversations {
		messages, err := w.all(ctx, "/v1/conversations/"+c.Text("id")+"/messages?order=asc&limit=200")
		if err != nil {
			return err
		}
		texts := make([]string, len(messages))
		for i, m := range messages {
			texts[i] = m.Text("text")
		}
		if key := fmt.Sprintf("%q", texts); !want[key] {
			return fmt.Errorf("a conversation of %d messages is none of the model's: %.300s", len(texts), key)
		} else {
			delete(want, key)
		}
	}
	if len(want) > 0 {
		return errors.New("some conversation of the model is missing")
	}
	return nil
}
