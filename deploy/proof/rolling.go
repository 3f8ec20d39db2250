package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tributary.dev/deploy/mesh"
)

// rolling replaces every replica of every service by TERM, one after the other, as a new version is brought
// out. Nobody who asks the mesh anything is refused.
func rolling() scenario {
	return scenario{
		name: "rolling", harm: "two replicas of each service replaced one after the other by TERM under load: no request is refused",
		parts: []string{real}, small: 1000, settings: impatient(), ground: ground{replicas: 2},
		run: func(ctx context.Context, r *run) error {
			if err := r.answer(ctx); err != nil {
				return err
			}
			asking, stop := context.WithCancel(ctx)
			defer stop()
			asked, err := r.ask(asking)
			if err != nil {
				return err
			}
			err = r.throughout(ctx, r.everything(), r.lasting(20*time.Second, 2*time.Minute), r.replaceAll)
			stop()
			asked.done.Wait()
			r.say("rolling: %d reads and %d posts meanwhile", asked.reads.Load(), asked.posts.Load())
			if n := r.refused(); n > 0 {
				r.broken("%d webhooks were refused (%d were not answered at all)", n, r.sender.failed.Load())
			}
			return errors.Join(err, r.ended(ctx), r.nobodyDied(ctx))
		},
	}
}

// replaceAll stops and starts each process, and goes on when it is ready.
func (r *run) replaceAll(ctx context.Context) error {
	for _, p := range r.Processes() {
		r.say("rolling: %s is replaced, %.1f s after the start", p, float64(r.ledger.now())/1e6)
		stopping, cancel := context.WithTimeout(ctx, time.Minute)
		err := p.Stop(stopping)
		cancel()
		if err := errors.Join(err, p.Start(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// asking is what members ask while processes are replaced.
type asking struct {
	reads, posts atomic.Int64
	done         sync.WaitGroup
}

// ask reads conversations and replies in them without a pause until ctx ends. What is refused is broken.
func (r *run) ask(ctx context.Context) (*asking, error) {
	conversations := []int{1, 2, 3}
	ids, err := r.open(ctx, conversations)
	if err != nil {
		return nil, err
	}
	a := &asking{}
	refused := func(what string, status int, err error) bool {
		if ctx.Err() == nil && (err != nil || status/100 != 2) {
			r.broken("%s is answered %d: %v", what, status, err)
			return true
		}
		return false
	}
	for _, c := range conversations {
		path := "/v1/conversations/" + ids[c] + "/messages"
		a.done.Go(func() {
			for n := 2; ctx.Err() == nil; n++ {
				// Once begun it is seen through: whether it was taken has to be known.
				kept, status, err := r.postOnce(context.WithoutCancel(ctx), ids[c], replyWords(c, n))
				if refused("a reply", status, err) {
					return
				}
				if kept {
					a.posts.Add(1)
				}
				_ = pause(ctx, time.Second) // the loop ends with ctx
			}
		})
		for _, read := range []string{path + "?limit=50", "/v1/conversations?limit=20", "/v1/connections", "/v1/privacy/requests"} {
			a.done.Go(func() {
				for ctx.Err() == nil {
					status, _, err := r.api.Raw(ctx, http.MethodGet, read, nil)
					if refused("GET "+read, status, err) {
						return
					}
					a.reads.Add(1)
					_ = pause(ctx, 20*time.Millisecond) // the loop ends with ctx
				}
			})
		}
	}
	return a, nil
}

// postOnce writes a reply without trying again.
func (r *run) postOnce(ctx context.Context, conversation, words string) (kept bool, status int, err error) {
	o, err := r.api.Call(ctx, http.MethodPost, "/v1/conversations/"+conversation+"/messages", mesh.Object{"text": words}, http.StatusCreated)
	if err != nil {
		return false, 0, err
	}
	id, ok := parseID([]byte(o.Text("id")))
	if ok {
		r.replies.keep(id, &reply{conversation: conversation, words: words})
	}
	return ok, http.StatusCreated, nil
}
