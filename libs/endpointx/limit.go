package endpointx

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
)

// workspaceLimit is go-kit's Waiter for one handler: a bucket for each workspace. It makes nobody wait;
// who is over the limit is answered 429.
type workspaceLimit struct {
	rate rate.Limit

	mu sync.Mutex
	//bound:exempt maxBuckets says it
	buckets map[string]*rate.Limiter
}

// maxBuckets is how many workspaces are remembered before those that are at rest are forgotten.
//
//bound:cache workspaces whose rate is watched, of each route | {} | those at rest are forgotten; where none is, all begin anew
const maxBuckets = 4096

func newWorkspaceLimit(r rate.Limit) *workspaceLimit {
	return &workspaceLimit{rate: r, buckets: map[string]*rate.Limiter{}}
}

// Wait implements ratelimit.Waiter.
func (l *workspaceLimit) Wait(ctx context.Context) error {
	c, _ := access.From(ctx)
	if l.bucket(c.WorkspaceID).Allow() {
		return nil
	}
	return problem.TooMany(time.Second)
}

func (l *workspaceLimit) bucket(workspace string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[workspace]
	if !ok {
		burst := max(1, int(2*l.rate))
		if len(l.buckets) >= maxBuckets {
			for id, other := range l.buckets {
				if other.Tokens() >= float64(burst) {
					delete(l.buckets, id)
				}
			}
			if len(l.buckets) >= maxBuckets { // all in use: each then begins anew
				clear(l.buckets)
			}
		}
		//bound:limit requests of one workspace to one route | {defaultRate} a second, a search fewer | 429
		b = rate.NewLimiter(l.rate, burst)
		l.buckets[workspace] = b
	}
	return b
}
