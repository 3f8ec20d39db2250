package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
)

// replay has the mesh handle all its topics but outbound again from their beginning, and gets every webhook
// again in another order. The API's answers stay as they are to the byte, and no command is sent again.
func replay() scenario {
	return scenario{
		name: "replay", harm: "all topics but outbound again from offset 0, and all webhooks again in another order",
		parts: []string{embedded, real}, small: 1000,
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			if err := r.load(ctx); err != nil {
				return err
			}
			before, err := r.settledAnswers(ctx)
			if err != nil {
				return err
			}
			posts := r.posts()

			stopping, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if err := r.Stop(stopping); err != nil {
				return err
			}
			records, err := r.rewind(ctx)
			if err != nil {
				return err
			}
			if records < int64(r.traffic.events()) {
				return fmt.Errorf("only %d records are handled again, of %d webhooks", records, r.traffic.events())
			}
			if err := r.Start(ctx); err != nil {
				return err
			}
			if err := r.replayed(ctx, "replay of the topics", before, posts); err != nil {
				return err
			}
			seen, err := r.Metric(ctx, "tributary_events_projected_total", `result="seen"`)
			if err != nil {
				return err
			}
			if seen < float64(r.traffic.events()) {
				return fmt.Errorf("of %d webhooks only %.0f were handled again", r.traffic.events(), seen)
			}
			r.say("replay: %d records were handled again", records)

			if err := r.sender.deliverAll(ctx, shuffled(r.ledger.size(), 8, r.seed, 1)); err != nil {
				return err
			}
			return r.replayed(ctx, "repetition of the webhooks", before, posts)
		},
	}
}

// rewind sets every group back to the beginning of its topics, but of the commands: those are orders.
func (r *run) rewind(ctx context.Context) (records int64, err error) {
	topics, err := r.Topics(ctx)
	if err != nil {
		return 0, err
	}
	defer topics.Close()
	return topics.Rewind(ctx, func(topic string) bool { return strings.HasPrefix(topic, "outbound.") })
}

// replayed wants the same answers as before, and the providers to have got nothing more.
func (r *run) replayed(ctx context.Context, what string, before map[string][32]byte, posts []string) error {
	if err := mesh.Eventually(ctx, r.patience(), func() error { return r.Drained(ctx) }); err != nil {
		return err
	}
	after, err := r.answers(ctx)
	if err != nil {
		return err
	}
	differ := 0
	for path, sum := range before {
		if after[path] != sum {
			if differ++; differ <= mostExamples {
				r.say("replay: after the %s %s is answered otherwise", what, path)
			}
		}
	}
	if differ > 0 || len(after) != len(before) {
		r.broken("after the %s %d of %d answers differ, and there are %d", what, differ, len(before), len(after))
	}
	if now := r.posts(); !slices.Equal(now, posts) {
		r.broken("after the %s the providers have %d messages instead of %d", what, len(now), len(posts))
	}
	return nil
}

// posts are what the providers took, in their order.
func (r *run) posts() (all []string) {
	for _, p := range r.slack.Posts() {
		all = append(all, p.TS+" "+p.Text)
	}
	for _, p := range r.twilio.Posts() {
		all = append(all, p.SID+" "+p.Body)
	}
	return all
}

// settledAnswers are the API's once everything has been handled.
func (r *run) settledAnswers(ctx context.Context) (map[string][32]byte, error) {
	if d, err := r.compared(ctx); err != nil || !d.none() {
		return nil, fmt.Errorf("nothing was done yet, and %+v: %w", d, err)
	}
	if err := mesh.Eventually(ctx, r.patience(), func() error { return r.Drained(ctx) }); err != nil {
		return nil, err
	}
	return r.answers(ctx)
}

// patience with what grows with the traffic.
func (r *run) patience() time.Duration {
	return time.Minute + time.Duration(max(r.size, r.ledger.count()))*2*time.Millisecond
}

// answers are hashes of every answer of the API about conversations, messages and contacts, by path.
func (r *run) answers(ctx context.Context) (map[string][32]byte, error) {
	all := map[string][32]byte{}
	var mu sync.Mutex
	keep := func(path string, body []byte) {
		sum := sha256.Sum256(body)
		mu.Lock()
		defer mu.Unlock()
		all[path] = sum
	}
	var ids []string
	if err := rawPages(ctx, r, "/v1/conversations?limit=200", keep, func(c shownConversation) error {
		ids = append(ids, c.ID)
		return nil
	}); err != nil {
		return nil, err
	}
	ignore := func(struct{}) error { return nil }
	if err := rawPages(ctx, r, "/v1/contacts?limit=200", keep, ignore); err != nil {
		return nil, err
	}
	var next sync.Mutex
	faults := make([]error, readers)
	var reading sync.WaitGroup
	for n := range readers {
		reading.Go(func() {
			for faults[n] == nil {
				next.Lock()
				if len(ids) == 0 {
					next.Unlock()
					return
				}
				id := ids[0]
				ids = ids[1:]
				next.Unlock()
				faults[n] = rawPages(ctx, r, "/v1/conversations/"+id+"/messages?order=asc&limit=200", keep, ignore)
			}
		})
	}
	reading.Wait()
	for _, err := range faults {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
