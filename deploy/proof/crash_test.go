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

// arrival is one webhook that a provider sends until it is answered 2xx.
type arrival struct {
	id    string
	event map[string]any
}

// TestKill9UnderLoad kills the mesh at random moments while webhooks arrive, also while it starts and
// while it catches up. Whatever was answered 2xx is there afterwards exactly once, in the provider's order.
func TestKill9UnderLoad(t *testing.T) {
	webhooks, threads, kills := 5000, 100, 10
	if testing.Short() {
		webhooks, kills = 500, 2
	}
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	arrivals, model := threadedTraffic(webhooks, threads)

	var accepted atomic.Int64
	loaded := make(chan error, 1)
	go func() { loaded <- w.load(ctx, arrivals, 16, &accepted) }()
	killed, unready := 0, 0
	for killed < kills {
		// Kills spread over the load, each some time after the last: while it serves, or while it starts.
		for due := int64(webhooks * killed / kills); accepted.Load() < due && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		w.Kill()
		killed++
		if rand.IntN(3) == 0 {
			starting, stop := context.WithTimeout(ctx, time.Duration(10+rand.IntN(200))*time.Millisecond)
			if w.Start(starting) != nil {
				unready++
			}
			stop()
			w.Kill()
		}
		if err := w.Start(ctx); err != nil {
			t.Fatalf("start after kill %d: %v", killed, err)
		}
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	w.Kill() // once more with everything answered and some of it not yet handled
	if err := w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d webhooks accepted through %d kills, %d of them of a mesh that was not ready yet", accepted.Load(), killed+1+unready, unready)
	within(t, time.Minute, func() error { return w.holds(ctx, model) })
}

// threadedTraffic makes n messages in as many conversations as threads, shuffled, and the texts that each
// conversation then has.
func threadedTraffic(n, threads int) ([]arrival, [][]string) {
	base := time.Now()
	model := make([][]string, threads)
	arrivals := make([]arrival, n)
	for i := range arrivals {
		thread := i % threads
		root := ""
		if i >= threads {
			root = slackTime(base, thread)
		}
		text := fmt.Sprintf("message %d of thread %d", i, thread)
		model[thread] = append(model[thread], text)
		arrivals[i] = arrival{fmt.Sprintf("Ev%06d", i), standin.SlackMessage(
			fmt.Sprintf("C%04d", thread), "channel", fmt.Sprintf("U%04d", i%37), slackTime(base, i), root, text)}
	}
	rand.Shuffle(n, func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
	return arrivals, model
}

// load delivers all arrivals, several at once, and counts those accepted.
func (w *world) load(ctx context.Context, arrivals []arrival, workers int, accepted *atomic.Int64) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	faults := make([]error, workers)
	for n := range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(arrivals)); i = next.Add(1) - 1 {
				if err := w.deliver(ctx, arrivals[i].id, arrivals[i].event); err != nil {
					faults[n] = fmt.Errorf("%s: %w", arrivals[i].id, err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
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
		texts, err := w.texts(ctx, c)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("%q", texts)
		if !want[key] {
			return fmt.Errorf("a conversation of %d messages is none of the model's: %.300s", len(texts), key)
		}
		delete(want, key)
	}
	if len(want) > 0 {
		return errors.New("some conversation of the model is missing")
	}
	return nil
}

// texts of a conversation's messages, in the API's order.
func (w *world) texts(ctx context.Context, conversation mesh.Object) ([]string, error) {
	messages, err := w.all(ctx, "/v1/conversations/"+conversation.Text("id")+"/messages?order=asc&limit=200")
	texts := make([]string, len(messages))
	for i, m := range messages {
		texts[i] = m.Text("text")
	}
	return texts, err
}
