package bustest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"tributary.dev/libs/bus"
)

func scanBetweenTimes(t *testing.T, c *Cluster) {
	b := c.Open(t)
	ensure(t, b, bus.Topic{Name: "scanned.a"}, bus.Topic{Name: "scanned.b", Partitions: 1}, bus.Topic{Name: "other"})
	names, err := b.TopicNames(t.Context(), "scanned.")
	if err != nil || !slices.Equal(names, []string{"scanned.a", "scanned.b"}) {
		t.Fatalf("got %v and %v", names, err)
	}
	for n := range 20 {
		publish(t, b, numbered("scanned.a", fmt.Sprintf("key-%d", n%7), n))
	}
	time.Sleep(5 * time.Millisecond) // brokers know milliseconds
	between := time.Now()
	time.Sleep(5 * time.Millisecond)
	for n := range 20 {
		publish(t, b, numbered("scanned.a", fmt.Sprintf("key-%d", n%7), 20+n), numbered("scanned.b", "key", 40+n))
	}
	scan := func(from, to time.Time) (numbers []int) {
		next := map[string]int64{}
		if err := b.Scan(t.Context(), names, from, to, func(r bus.Record) error {
			place := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
			if r.Offset < next[place] {
				t.Errorf("%s is read backwards", place)
			}
			next[place] = r.Offset + 1
			numbers = append(numbers, number(t, r))
			publish(t, b, numbered(r.Topic, r.Key, 1000)) // what comes meanwhile is not its affair
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(numbers)
		return slices.DeleteFunc(numbers, func(n int) bool { return n == 1000 })
	}
	want := func(from, to int) (numbers []int) {
		for n := from; n < to; n++ {
			numbers = append(numbers, n)
		}
		return numbers
	}
	for _, part := range []struct {
		from, to time.Time
		want     []int
	}{
		{time.Time{}, between, want(0, 20)}, {between, time.Time{}, want(20, 60)}, {between, between, nil},
		{time.Time{}, time.Time{}, want(0, 60)}, {time.Now().Add(time.Hour), time.Time{}, nil},
	} {
		if got := scan(part.from, part.to); !slices.Equal(got, part.want) {
			t.Fatalf("got %v, want %v", got, part.want)
		}
	}
	stop := errors.New("enough")
	if err := b.Scan(t.Context(), names, time.Time{}, time.Time{}, func(bus.Record) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
}
