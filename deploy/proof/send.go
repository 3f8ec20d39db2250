package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/wire"
)

// impatient settings: what nobody can call any more is known within seconds.
func impatient() map[string]string {
	return map[string]string{
		"TRIBUTARY_SEND_LATE": "6s", "TRIBUTARY_SEND_LONGEST_CALL": "2s", "TRIBUTARY_CONVERSATION_POLL": "100ms",
	}
}

// send has members write while senders and relays die at any moment and the providers refuse, fail, answer
// late or not at all. No message comes to a provider twice, a conversation's come in their order, and each
// ends in a state that is true.
func send() scenario {
	return scenario{
		name: "send", harm: "senders and relays die, acks get lost and partitions move while replies leave, to providers that refuse, fail, answer late or not at all",
		parts: []string{embedded, real}, small: 320, ground: ground{own: true, replicas: 2, wires: true},
		run: func(ctx context.Context, r *run) error {
			conversations := make([]int, r.traffic.conversations)
			for c := range conversations {
				conversations[c] = c
			}
			ids, err := r.open(ctx, conversations)
			if err != nil {
				return err
			}
			// A quarter as many replies as webhooks elsewhere. One in ten leaves while processes are stopped as
			// they should be, and so none of these may end unknown.
			each := min(perConversation/4, max(r.size/100, 3))
			orderly := max(each/10, 1)
			provider := r.provide(ctx)
			if err := r.whileReplying(ctx, ids, 1, orderly, "sent", func(ctx context.Context) error {
				if err := pause(ctx, time.Duration(300+r.rand.IntN(700))*time.Millisecond); err != nil {
					return err
				}
				return r.restart(context.WithoutCancel(ctx))
			}); err != nil {
				return err
			}
			for name, value := range impatient() {
				r.Set(name, value)
			}
			if err := r.restart(ctx); err != nil {
				return err
			}
			provider.worst.Store(true)
			k := killer{r: r, victims: r.victims()}
			if err := r.whileReplying(ctx, ids, orderly+1, each, "", func(ctx context.Context) error {
				if err := r.pauseUpTo(ctx, 2500*time.Millisecond); err != nil {
					return err
				}
				return r.harmSending(context.WithoutCancel(ctx), &k)
			}); err != nil {
				return err
			}
			r.say("send: killed %d processes, and %d before they were ready", k.killed, k.unready)
			return provider.told()
		},
	}
}

// harmSending kills; and where there are more than one of each and wires between, it also loses the answers
// to commits and publications, and moves partitions by ending a sender as it should be.
func (r *run) harmSending(ctx context.Context, k *killer) error {
	all := r.Processes()
	if len(all) == 1 {
		return k.kill(ctx, all[0])
	}
	senders := append(append(r.Of("slack"), r.Of("sms")...), r.Of("conversation")...)
	p := senders[r.rand.IntN(len(senders))]
	switch r.rand.IntN(6) {
	case 0, 1:
		return k.kill(ctx, p)
	case 2:
		return k.kill(ctx, k.some()...)
	case 3:
		stopping, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return errors.Join(p.Stop(stopping), p.Start(ctx))
	case 4:
		p.Broker.LoseAnswers(wire.OffsetCommit, 1+r.rand.IntN(4))
	default:
		p.Broker.LoseAnswers(wire.Produce, 1+r.rand.IntN(4))
	}
	return nil
}

// restart stops the mesh in an orderly way and starts it.
func (r *run) restart(ctx context.Context) error {
	stopping, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.Stop(stopping); err != nil {
		return err
	}
	return r.Start(ctx)
}

// whileReplying writes replies from to last to every conversation, does harm again and again meanwhile, and
// until each has ended.
func (r *run) whileReplying(ctx context.Context, ids map[int]string, from, last int, status string, harm func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	writing, written := context.WithCancel(ctx)
	defer written()
	var harmer sync.WaitGroup
	var harmed error
	times := 0
	harmer.Go(func() {
		for writing.Err() == nil {
			if harmed = harm(writing); harmed != nil {
				if writing.Err() != nil {
					harmed = nil
					return
				}
				cancel()
				return
			}
			times++
		}
	})
	err := r.reply(ctx, ids, from, last, status)
	if err == nil {
		err = r.ended(ctx)
	}
	written()
	harmer.Wait()
	if harmed != nil {
		return fmt.Errorf("harm: %w", harmed)
	}
	r.say("send: %d replies by now, through %d times of harm", r.replies.count(), times)
	return err
}

// writers write at once.
const writers = 16

// reply writes to all conversations, to each in order.
func (r *run) reply(ctx context.Context, ids map[int]string, from, last int, status string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	faults := make([]error, writers)
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for c := int(next.Add(1)) - 1; c < len(ids); c = int(next.Add(1)) - 1 {
				for n := from; n <= last; n++ {
					if err := r.post(ctx, ids[c], replyWords(c, n), status); err != nil {
						faults[w] = err
						cancel()
						return
					}
				}
			}
		})
	}
	writing.Wait()
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}

// ended waits until the live stream told an end of every reply, or told nothing new for long.
func (r *run) ended(ctx context.Context) error {
	for last, changed := -1, time.Now(); time.Since(changed) < patience; {
		open := r.replies.count() - r.stream.endedCount()
		if open <= 0 {
			return nil
		}
		if open != last {
			last, changed = open, time.Now()
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil // comparing tells which
}

// provider decides what becomes of the calls that the stand-ins get, and tells of half of what they took.
type provider struct {
	r     *run
	worst atomic.Bool

	telling sync.WaitGroup
	places  chan struct{}
	mu      sync.Mutex
	fault   error
}

// provide has the providers take what they are sent slowly, and some of it only when asked again; at their
// worst they refuse, fail, answer late or not at all.
func (r *run) provide(ctx context.Context) *provider {
	p := &provider{r: r, places: make(chan struct{}, connections)}
	r.slack.Posted = func(post standin.SlackPost) {
		channelType := "channel"
		if strings.HasPrefix(post.Channel, "D") {
			channelType = "im"
		}
		p.tell(ctx, post.Text, slackWebhook("EvPosted"+post.TS, time.Now(), standin.SlackMetadataPosted(app, post)),
			slackWebhook("EvEcho"+post.TS, time.Now(), standin.SlackEcho(app, channelType, post)))
	}
	r.twilio.Posted = func(post standin.TwilioPost) {
		callback, err := url.Parse(post.StatusCallback)
		if err != nil {
			r.broken("the provider is to call back at what is no URL")
			return
		}
		p.tell(ctx, post.Body, r.twilioWebhook("?"+callback.RawQuery, standin.TwilioStatus(accountSID, post, "delivered", "")),
			r.twilioWebhook("?"+callback.RawQuery, standin.TwilioStatus(accountSID, post, "sent", "")))
	}
	r.slack.Fail(p.failure(rand.New(rand.NewPCG(r.seed, 2))))
	r.twilio.Fail(p.failure(rand.New(rand.NewPCG(r.seed, 3))))
	return p
}

// failure of a call; random is asked by one call at a time.
func (p *provider) failure(random *rand.Rand) standin.Fault {
	return func(_ int, method string) standin.Failure {
		if method != "chat.postMessage" && method != "messages.create" {
			return standin.Failure{}
		}
		dice := random.IntN(100)
		f := standin.Failure{
			Before: time.Duration(random.IntN(100)) * time.Millisecond, Delay: time.Duration(random.IntN(200)) * time.Millisecond,
		}
		switch {
		case dice < 5:
			return standin.Failure{Refuse: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}}
		case !p.worst.Load():
		case dice < 8:
			return standin.Failure{Refuse: http.StatusInternalServerError}
		case dice < 9:
			return standin.Failure{Refuse: http.StatusBadRequest}
		case dice < 12:
			f.HangUp = true
		case dice < 14:
			f.Before = time.Minute // it is not carried out once the caller has left
		case dice < 16:
			f.Delay = 5 * time.Second
		}
		return f
	}
}

// tell sends the webhooks about every second message, at the providers' worst.
func (p *provider) tell(ctx context.Context, words string, hooks ...webhook) {
	if c, n, err := parseReply(words); !p.worst.Load() || err != nil || (c+n)%2 > 0 {
		return
	}
	p.telling.Go(func() {
		p.places <- struct{}{}
		defer func() { <-p.places }()
		for _, h := range hooks {
			if err := p.r.insist(ctx, h.path, h.sign, h.body); err != nil {
				p.mu.Lock()
				p.fault = err
				p.mu.Unlock()
				return
			}
		}
		p.r.replies.acknowledge(words)
	})
}

// told waits until all of it is answered 2xx.
func (p *provider) told() error {
	p.telling.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return fmt.Errorf("telling of a reply: %w", p.fault)
	}
	return nil
}
