package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

// chatter has members reply in some conversations again and again, each reply behind the one before, until hush
// is called: it waits for the last to be taken. Of a channel's threads it is one: Slack takes one message a second
// in a channel.
func (r *run) chatter(ctx context.Context) (hush func() error, err error) {
	var conversations []int
	for c := 0; c < r.traffic.conversations && len(conversations) < 16; c++ {
		if r.traffic.medium(c) != thread || c%8 == 0 {
			conversations = append(conversations, c)
		}
	}
	ids, err := r.open(ctx, conversations)
	if err != nil {
		return nil, err
	}
	var stop = make(chan struct{})
	var writing sync.WaitGroup
	faults := make([]error, len(conversations))
	for i, c := range conversations {
		writing.Go(func() {
			for n := 2; ; n++ { // the first is answer's
				if faults[i] = r.post(ctx, ids[c], replyWords(c, n), ""); faults[i] != nil {
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		})
	}
	return func() error {
		close(stop)
		writing.Wait()
		return errors.Join(faults...)
	}, nil
}
