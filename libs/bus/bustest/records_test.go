package bustest

import (
	"fmt"
	"slices"
	"testing"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/devbroker"
)

func TestRecordsReadsEverythingAnywhere(t *testing.T) {
	read := func(t *testing.T, addrs []string, prefix string) (all []string) {
		t.Helper()
		if err := Records(t.Context(), addrs, prefix, func(r bus.Record) error {
			for _, h := range r.Headers {
				all = append(all, fmt.Sprintf("%s %s %s %s=%s", r.Topic, r.Key, r.Value, h.Key, h.Value))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		return all
	}
	write := func(t *testing.T, b *bus.Bus) (all []string) {
		t.Helper()
		for _, topic := range []string{"one", "two"} {
			if err := b.EnsureTopics(t.Context(), bus.Topic{Name: topic, Compacted: topic == "two"}); err != nil {
				t.Fatal(err)
			}
			for n := range 200 {
				m := bus.Message{Topic: topic, Key: fmt.Sprintf("k%d", n), Value: []byte(fmt.Sprintf("value %d", n)), Headers: []bus.Header{{Key: "h", Value: []byte("x")}}}
				if err := b.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				all = append(all, fmt.Sprintf("%s %s %s h=x", topic, m.Key, m.Value))
			}
		}
		slices.Sort(all)
		return all
	}
	t.Run("live", func(t *testing.T) {
		EachCluster(t, func(t *testing.T, c *Cluster) {
			want := write(t, c.Open(t))
			if got := read(t, c.Addrs, c.Prefix); !slices.Equal(got, want) {
				t.Errorf("%d records of %d", len(got), len(want))
			}
		})
	})
	t.Run("kept in a folder", func(t *testing.T) {
		dir := t.TempDir()
		broker, err := devbroker.Start(t.Context(), devbroker.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		b, err := bus.Open(t.Context(), bus.Config{Brokers: []string{broker.Addr()}, Prefix: "kept."})
		if err != nil {
			t.Fatal(err)
		}
		want := write(t, b)
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Serve(t.Context(), dir); err == nil {
			t.Error("a folder that is in use is served")
		}
		broker.Close()
		addr, stop, err := Serve(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if got := read(t, []string{addr}, "kept."); !slices.Equal(got, want) {
			t.Errorf("%d records of %d", len(got), len(want))
		}
	})
}
