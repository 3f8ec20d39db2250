package bus

import (
	"context"
	"errors"
	"sync"
	"time"
)

// commitApart lies between two commits of a subscription, each of all partitions that have come further: a commit costs
// the brokers as much as some hundred records do. After a crash what was handled meanwhile is handled again.
//
//bound:retry committing what subscriptions have handled | every {} | what was handled since is handed out again after a crash
const commitApart = 50 * time.Millisecond

// commits are what is to be committed of one generation's partitions.
type commits struct {
	// due tells that there is something, ended that nothing more will come.
	due, ended chan struct{}

	mu sync.Mutex
	//bound:exempt one offset a partition
	next map[*Partition]int64
}

func newCommits() *commits {
	//bound:queue wake-ups of who commits for a subscription | {} | the next is dropped: one is enough
	return &commits{due: make(chan struct{}, 1), ended: make(chan struct{}), next: map[*Partition]int64{}}
}

// add has everything below next committed soon.
func (c *commits) add(p *Partition, next int64) {
	c.mu.Lock()
	c.next[p] = next
	c.mu.Unlock()
	select {
	case c.due <- struct{}{}:
	default:
	}
}

func (c *commits) end() { close(c.ended) }

func (c *commits) take() map[*Partition]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.next
	c.next = map[*Partition]int64{}
	return next
}

// keepCommitting commits what subscriptions have handled until they have ended. A generation that has ended may still
// commit, until the members have joined the next one.
func (g *generationOf) keepCommitting(ctx context.Context) {
	for last := false; !last; {
		select {
		case <-g.commits.due:
			//bound:exempt commitApart says it
			apart := time.NewTimer(commitApart)
			select {
			case <-apart.C:
			case <-g.commits.ended:
				apart.Stop()
			}
		case <-g.commits.ended:
			last = true
		}
		next := g.commits.take()
		if len(next) == 0 {
			continue
		}
		if err := g.commit(ctx, next, ""); err != nil && !errors.Is(err, ErrStaleGeneration) {
			// The next commit covers this one; a crash before it hands the batches out again.
			g.b.log.WarnContext(ctx, "bus: commit", "group", g.group, "partitions", len(next), "error", err)
		}
	}
}
