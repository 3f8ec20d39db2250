package seal

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps what the registry answered for at most ttl from when the request was sent, the newest max
// of it. Nothing extends an entry: what is in use is asked for anew. What has expired is also dropped from memory by a timer, which runs
// only while there are entries.
//
//bound:cache keys, and identities, that the registry answered | {defaultCacheSize} each, for {TRIBUTARY_CACHE_TTL} | the oldest is forgotten
type cache[K comparable] struct {
	ttl time.Duration
	max int
	now func() time.Time

	mu         sync.Mutex
	entries    map[K]*list.Element // of entry[K], in the order of arrival
	order      list.List
	bySubject  map[string]map[K]struct{}
	generation uint64
	timer      *time.Timer
}

type entry[K comparable] struct {
	key     K
	subject Subject
	since   int64 // smallest acted-at that the answer stands for; see Client.Acquire
	sent    time.Time
	ageing  bool // and somebody was told
}

func newCache[K comparable](ttl time.Duration, size int, now func() time.Time) *cache[K] {
	return &cache[K]{
		ttl: ttl, max: size, now: now,
		entries: map[K]*list.Element{}, bySubject: map[string]map[K]struct{}{},
	}
}

// get gives an entry. It tells once that an entry has most of its time behind it: who asks the registry again then will
// not have to wait for it.
func (c *cache[K]) get(key K) (e entry[K], ok, ageing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[key]
	if !ok {
		return e, false, false
	}
	e = el.Value.(entry[K])
	if c.older(e.sent, c.ttl) {
		c.remove(el)
		return entry[K]{}, false, false
	}
	if ageing = !e.ageing && c.older(e.sent, c.ttl*2/3); ageing {
		e.ageing = true
		el.Value = e
	}
	return e, true, ageing
}

// put keeps an answer to a request that was sent in that generation. An answer that crossed an eviction
// is not kept: it may be older than the freeze that the eviction is about.
func (c *cache[K]) put(e entry[K], generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation || c.older(e.sent, c.ttl) {
		return
	}
	if el, ok := c.entries[e.key]; ok {
		old := el.Value.(entry[K])
		since := min(e.since, old.since)
		same := old.subject.ID == e.subject.ID
		if old.sent.After(e.sent) {
			e = old
		}
		if same { // the identity was not erased between the two answers
			e.since = since
		}
		c.remove(el)
	}
	c.entries[e.key] = c.order.PushBack(e)
	keys := c.bySubject[e.subject.ID]
	if keys == nil {
		keys = map[K]struct{}{}
		c.bySubject[e.subject.ID] = keys
	}
	keys[e.key] = struct{}{}
	if c.order.Len() > c.max {
		c.remove(c.order.Front())
	}
	c.arm()
}

// evict drops all entries of the subjects and starts a new generation.
func (c *cache[K]) evict(subjectIDs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for _, id := range subjectIDs {
		for key := range c.bySubject[id] {
			c.remove(c.entries[key])
		}
	}
}

func (c *cache[K]) currentGeneration() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}

func (c *cache[K]) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	for el := c.order.Front(); el != nil && c.older(el.Value.(entry[K]).sent, c.ttl); el = c.order.Front() {
		c.remove(el)
	}
	c.arm()
}

func (c *cache[K]) arm() {
	if c.timer == nil && c.order.Len() > 0 {
		left := c.ttl - c.now().Sub(c.order.Front().Value.(entry[K]).sent)
		//bound:timeout a plain key in memory | {TRIBUTARY_CACHE_TTL} | forgotten, used or not
		c.timer = time.AfterFunc(max(left, time.Millisecond), c.purge)
	}
}

// older goes by the monotonic clock and by the wall clock, whichever is further: the first stands still
// while a machine sleeps.
func (c *cache[K]) older(sent time.Time, age time.Duration) bool {
	now := c.now()
	return now.Sub(sent) >= age || now.Round(0).Sub(sent.Round(0)) >= age
}

func (c *cache[K]) remove(el *list.Element) {
	e := c.order.Remove(el).(entry[K])
	delete(c.entries, e.key)
	keys := c.bySubject[e.subject.ID]
	delete(keys, e.key)
	if len(keys) == 0 {
		delete(c.bySubject, e.subject.ID)
	}
}
