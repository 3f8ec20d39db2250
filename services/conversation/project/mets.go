package project

import (
	"sync"

	"tributary.dev/services/conversation/store"
)

// rememberedMets is how many people's identities are remembered, about: most events are of somebody who was met
// before, and change nothing of who that is.
const rememberedMets = 32_000

// metCache remembers what identities came from. That another process has since replaced one by what comes before does
// no harm: the database decides.
type metCache struct {
	mu sync.Mutex
	//bound:cache what people's identities came from | {rememberedMets} people | who was not heard of for longest is looked up again
	young, old map[string]store.Met
}

func (c *metCache) get(subject string) (store.Met, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.young[subject]; ok {
		return m, true
	}
	m, ok := c.old[subject]
	return m, ok
}

func (c *metCache) keep(mets map[string]store.Met) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject, m := range mets {
		if c.young == nil || len(c.young) >= rememberedMets/2 {
			c.young, c.old = map[string]store.Met{}, c.young
		}
		c.young[subject] = m
	}
}
