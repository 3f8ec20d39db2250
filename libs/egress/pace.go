package egress

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tributary.dev/libs/channel"
)

// pacer keeps what providers limit, and how many commands of a connection are under way. It is bounded:
// what has not been used for as long as its limit remembers is forgotten.
type pacer struct {
	hold     time.Duration
	maxSeats int

	mu sync.Mutex
	//bound:exempt maxPaced says it
	keys map[string]*paced
	//bound:limit commands of one connection that are taken and not yet reported | {Config.CallsPerConnection} | deferred
	seats map[string]int
}

// maxPaced bounds the limits kept.
//
//bound:cache limits of providers that are kept | {} | idle ones are forgotten, then any: it begins anew
const maxPaced = 20_000

type paced struct {
	limit *rate.Limiter
	// spread sets those apart that were deferred, so that they do not all come back at once.
	spread *rate.Limiter
	// pausedUntil is what the provider asked for.
	pausedUntil time.Time
	// idleAt is when nothing of the past matters any more.
	idleAt time.Time
}

func newPacer(hold time.Duration, seats int) *pacer {
	return &pacer{hold: hold, maxSeats: seats, keys: map[string]*paced{}, seats: map[string]int{}}
}

// reserve gives the next turn within a limit: due, or, where that is further off than may be waited, the
// time to come back at (and no turn is used up).
func (p *pacer) reserve(key string, pace channel.Pace, now time.Time) (due, notBefore time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pace.Every <= 0 {
		if k := p.keys[key]; k != nil && k.pausedUntil.Sub(now) > p.hold {
			return time.Time{}, k.pausedUntil
		} else if k != nil && k.pausedUntil.After(now) {
			return k.pausedUntil, time.Time{}
		}
		return now, time.Time{}
	}
	k := p.of(key, now)
	k.set(pace)
	turn := k.limit.ReserveN(now, 1)
	due = now.Add(turn.DelayFrom(now))
	if k.pausedUntil.After(due) {
		due = k.pausedUntil
	}
	if due.Sub(now) <= p.hold {
		k.usedUntil(due.Add(time.Duration(k.limit.Burst()) * pace.Every))
		return due, time.Time{}
	}
	turn.CancelAt(now)
	notBefore = due.Add(k.spread.ReserveN(due, 1).DelayFrom(due))
	k.usedUntil(notBefore)
	return time.Time{}, notBefore
}

// pause lets nothing of a key begin before until.
func (p *pacer) pause(key string, now, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.of(key, now)
	if until.After(k.pausedUntil) {
		k.pausedUntil = until
		k.usedUntil(until)
	}
}

// paused is until when a key is paused; zero where it is not.
func (p *pacer) paused(key string, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.keys[key]; k != nil && k.pausedUntil.After(now) {
		return k.pausedUntil
	}
	return time.Time{}
}

// sit takes one of a connection's seats; stand gives it back.
func (p *pacer) sit(connection string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seats[connection] >= p.maxSeats {
		return false
	}
	p.seats[connection]++
	return true
}

func (p *pacer) stand(connection string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seats[connection]--; p.seats[connection] <= 0 {
		delete(p.seats, connection)
	}
}

// of finds or makes a key, forgetting idle ones first where there are too many.
func (p *pacer) of(key string, now time.Time) *paced {
	if k := p.keys[key]; k != nil {
		return k
	}
	if len(p.keys) >= maxPaced {
		for old, k := range p.keys {
			if k.idleAt.Before(now) {
				delete(p.keys, old)
			}
		}
		for old := range p.keys { // all in use: any one then starts anew
			if len(p.keys) < maxPaced {
				break
			}
			delete(p.keys, old)
		}
	}
	//bound:exempt part of what maxPaced bounds
	//bound:exempt part of what maxPaced bounds
	k := &paced{limit: rate.NewLimiter(rate.Inf, 1), spread: rate.NewLimiter(rate.Inf, 1)}
	p.keys[key] = k
	return k
}

// set follows what the channel says of the limit, which may change.
func (k *paced) set(pace channel.Pace) {
	every, burst := rate.Every(pace.Every), max(pace.Burst, 1)
	if k.limit.Limit() == every && k.limit.Burst() == burst {
		return
	}
	//bound:limit calls as fast as the provider allows | what the channel says | waits as long as a partition may be held, else deferred
	//bound:exempt spreads those that were deferred
	k.limit, k.spread = rate.NewLimiter(every, burst), rate.NewLimiter(every, 1)
}

func (k *paced) usedUntil(t time.Time) {
	if t.After(k.idleAt) {
		k.idleAt = t
	}
}
