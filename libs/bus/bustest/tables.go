package bustest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"tributary.dev/libs/bus"
)

func tailGetsWhatComesAfter(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "wake"}, bus.Topic{Name: "evict"})
	publish(t, b, numbered("wake", "a", 1))
	var tails [2]*collected
	for i := range tails {
		tails[i] = &collected{}
		running(t, func(ctx context.Context) error {
			return c.Open(t).Tail(ctx, []string{"wake", "evict"}, func(r bus.Record) { tails[i].add(r) })
		})
		n := 100 * (i + 1)
		Eventually(t, "the tail has begun", func() bool {
			publish(t, b, numbered("wake", strconv.Itoa(n), n))
			n++
			return tails[i].len() > 0
		})
	}
	publish(t, b, numbered("wake", "b", 2), numbered("evict", "c", 3))
	for _, got := range tails {
		has := func(n int) bool {
			for _, r := range got.all() {
				if number(t, r) == n {
					return true
				}
			}
			return false
		}
		Eventually(t, "each tail gets both", func() bool { return has(2) && has(3) })
		if has(1) {
			t.Fatal("a tail got what came before it")
		}
	}
}

func tableFollows(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "apps", Compacted: true})
	set := func(key, value string) {
		publish(t, b, bus.Message{Topic: "apps", Key: key, Value: []byte(value)})
	}
	set("a", "1")
	set("b", "1")
	set("b", "")
	set("c", "undecodable")

	var mu sync.Mutex
	changes := map[string]int{}
	apps := bus.NewTable(b, bus.TableConfig[string]{Topic: "apps", Decode: decode, OnChange: func(key, value string, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		changes[fmt.Sprint(key, value, ok)]++
	}})
	if apps.Ready() {
		t.Fatal("ready before it was read")
	}
	running(t, apps.Run)
	ready(t, apps)
	if v, ok := apps.Get("a"); !ok || v != "1" || apps.Len() != 1 {
		t.Fatalf("a is %q, %d entries", v, apps.Len())
	}
	set("a", "2")
	set("d", "1")
	set("d", "")
	set("a", "undecodable")
	confirm(t, apps)
	if v, _ := apps.Get("a"); v != "2" {
		t.Fatalf("a is %q, want 2: what cannot be decoded is skipped", v)
	}
	apps.All(func(key, _ string) bool {
		if key != "a" {
			t.Errorf("%s was deleted", key)
		}
		_, ok := apps.Get(key) // the table may be used meanwhile
		return ok
	})
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"a1true", "a2true", "d1true", "dfalse"} {
		if changes[want] != 1 {
			t.Errorf("change %q was told %d times", want, changes[want])
		}
	}
}

// tableAcrossHoles: compaction leaves offsets that no record has, within batches, between them and,
// once records were deleted too, at the end.
func tableAcrossHoles(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "apps", Compacted: true, Partitions: 1, MaxCompactionLag: time.Millisecond, Segment: time.Millisecond})
	published := 0
	Eventually(t, "compaction has left holes", func() bool {
		var msgs []bus.Message
		for range 10 {
			msgs = append(msgs, bus.Message{Topic: "apps", Key: strconv.Itoa(published % 3), Value: []byte(strconv.Itoa(published))})
			published++
		}
		publish(t, b, msgs...)
		if c.Clean != nil {
			c.Clean()
		}
		return published%100 == 0 && c.count(t, "apps", 0, int64(published)) < published-20
	})
	last := func(key int) string {
		for n := published - 1; ; n-- {
			if n%3 == key {
				return strconv.Itoa(n)
			}
		}
	}
	apps := table(t, b, "apps", "")
	ready(t, apps)
	confirm(t, apps)
	for key := range 3 {
		if v, _ := apps.Get(strconv.Itoa(key)); v != last(key) {
			t.Fatalf("%d is %q, want %s", key, v, last(key))
		}
	}
	if c.Clean == nil {
		return // Kafka deletes no records of a topic that is compacted alone
	}
	c.deleteRecords(t, "apps", 0, int64(published)) // an end with nothing before it
	empty := table(t, b, "apps", "")
	ready(t, empty)
	confirm(t, empty)
	if empty.Len() != 0 {
		t.Fatalf("%d entries of records that were deleted", empty.Len())
	}
}

// tableShowsNoOldValues: a value long replaced must not show while the topic is read from its start.
func tableShowsNoOldValues(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "apps", Compacted: true})
	var msgs []bus.Message
	for n := range 2000 {
		msgs = append(msgs, bus.Message{Topic: "apps", Key: strconv.Itoa(n % 10), Value: []byte(strconv.Itoa(n))})
	}
	publish(t, b, msgs...)
	apps := bus.NewTable(b, bus.TableConfig[string]{Topic: "apps", Decode: decode, OnChange: func(key, value string, _ bool) {
		if n, _ := strconv.Atoi(value); n < 1990 {
			t.Errorf("%s was %s once", key, value)
		}
	}})
	running(t, apps.Run)
	ready(t, apps)
	if apps.Len() != 10 {
		t.Fatalf("%d entries, want 10", apps.Len())
	}
}

func tableSnapshot(t *testing.T, c *Cluster) {
	file := filepath.Join(t.TempDir(), "tables", "apps")
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "apps", Compacted: true})
	publish(t, b, bus.Message{Topic: "apps", Key: "a", Value: []byte("1")}, bus.Message{Topic: "apps", Key: "gone", Value: []byte("1")})
	stop := running(t, snapshotted(b, file).Run)
	stop() // before it was read, it must not leave an empty snapshot behind
	first := snapshotted(b, file)
	stop = running(t, first.Run)
	ready(t, first)
	confirm(t, first)
	stop()

	proxy := NewProxy(t)
	proxy.Cut()
	away := c.Open(t, proxy.Through)
	second := snapshotted(away, file)
	running(t, second.Run)
	ready(t, second)
	if v, _ := second.Get("a"); v != "1" {
		t.Fatalf("a is %q, want what was kept", v)
	}
	ctx, cancel := withTimeout(t, 100)
	defer cancel()
	if second.Confirm(ctx, time.Now()) == nil {
		t.Fatal("confirmed without a broker")
	}
	publish(t, b, bus.Message{Topic: "apps", Key: "gone"}, bus.Message{Topic: "apps", Key: "b", Value: []byte("1")})
	proxy.Mend()
	Eventually(t, "it follows once the broker is back", func() bool {
		_, ok := second.Get("b")
		return ok
	})
	if _, ok := second.Get("gone"); ok {
		t.Fatal("what was deleted meanwhile is still there")
	}
	confirm(t, second)
}

func table(t testing.TB, b *bus.Bus, topic, snapshot string) *bus.Table[string] {
	apps := bus.NewTable(b, bus.TableConfig[string]{Topic: topic, Decode: decode, Encode: encode, Snapshot: snapshot})
	running(t, apps.Run)
	return apps
}

func snapshotted(b *bus.Bus, file string) *bus.Table[string] {
	return bus.NewTable(b, bus.TableConfig[string]{Topic: "apps", Decode: decode, Encode: encode, Snapshot: file})
}

func decode(value []byte) (string, error) {
	if string(value) == "undecodable" {
		return "", errors.New("undecodable")
	}
	return string(value), nil
}

func encode(value string) ([]byte, error) { return []byte(value), nil }

func ready(t testing.TB, apps *bus.Table[string]) {
	t.Helper()
	ctx, cancel := withTimeout(t, 20_000)
	defer cancel()
	if err := apps.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func confirm(t testing.TB, apps *bus.Table[string]) {
	t.Helper()
	ctx, cancel := withTimeout(t, 20_000)
	defer cancel()
	since := time.Now()
	var err error
	for ctx.Err() == nil { // a question may meet a broker that is just coming back
		if err = apps.Confirm(ctx, since); err == nil {
			return
		}
	}
	t.Fatal(err)
}
