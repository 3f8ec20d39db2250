package devbroker_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/devbroker"
)

// TestMain turns into a broker where a test asks for one that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DEVBROKER_TEST_DIR"); dir != "" {
		b, err := devbroker.Start(context.Background(), devbroker.Config{Dir: dir, Listen: os.Getenv("DEVBROKER_TEST_LISTEN")})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("listening", b.Addr())
		select {}
	}
	os.Exit(m.Run())
}

// startProcess gives a broker that kill ends with SIGKILL.
func startProcess(t *testing.T, dir, listen string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DEVBROKER_TEST_DIR="+dir, "DEVBROKER_TEST_LISTEN="+listen)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		t.Fatalf("the broker did not start: %q, %v", line, err)
	}
	return addr, kill
}

func TestKilledKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	addr, kill := startProcess(t, dir, "")
	cluster := &bustest.Cluster{Addrs: []string{addr}}
	b := cluster.Open(t)
	if err := b.EnsureTopics(t.Context(), bus.Topic{Name: "events"}); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	acked, handled := map[int]bool{}, map[int]int{}
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	subscription := bus.Subscription{Group: "g", Topics: []string{"events"}, Handle: func(_ context.Context, batch []bus.Record) error {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range batch {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return err
			}
			handled[n]++
		}
		return nil
	}}
	working.Go(func() { _ = b.Subscribe(ctx, subscription) })
	var next atomic.Int64
	for range 8 {
		working.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1))
				attempt, done := context.WithTimeout(ctx, time.Second)
				err := b.Publish(attempt, bus.Message{Topic: "events", Key: strconv.Itoa(n % 16), Value: []byte(strconv.Itoa(n))})
				done()
				if err == nil {
					mu.Lock()
					acked[n] = true
					mu.Unlock()
				}
			}
		})
	}
	counts := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return len(acked), len(handled)
	}
	for range 3 {
		before, _ := counts()
		bustest.Eventually(t, "messages are acknowledged", func() bool { now, _ := counts(); return now > before+50+rand.IntN(200) })
		kill()
		_, kill = startProcess(t, dir, addr)
	}
	before, _ := counts()
	bustest.Eventually(t, "messages are acknowledged again", func() bool { now, _ := counts(); return now > before+50 })
	cancel()
	working.Wait()

	again, stop := context.WithCancel(context.Background())
	defer stop() // before the deferred working.Wait
	working.Go(func() { _ = b.Subscribe(again, subscription) })
	bustest.Eventually(t, "all that was acknowledged is handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for n := range acked {
			if handled[n] == 0 {
				return false
			}
		}
		return true
	})
	if a, h := counts(); h < a {
		t.Fatalf("%d acknowledged, %d handled", a, h)
	}
}

func TestFolderIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, err := devbroker.Start(t.Context(), devbroker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := devbroker.Start(t.Context(), devbroker.Config{Dir: dir}); err == nil {
		second.Close()
		t.Fatal("two brokers share a folder")
	}
	first.Close()
	again, err := devbroker.Start(t.Context(), devbroker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	again.Close() // is safe
}

func TestRetention(t *testing.T) {
	broker, err := devbroker.Start(t.Context(), devbroker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	cluster := &bustest.Cluster{Addrs: []string{broker.Addr()}}
	b := cluster.Open(t)
	if err := b.EnsureTopics(t.Context(), bus.Topic{Name: "short", Retention: time.Millisecond, Partitions: 1}, bus.Topic{Name: "long", Retention: time.Hour, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"short", "long"} {
		if err := b.Publish(t.Context(), bus.Message{Topic: topic, Key: "k", Value: []byte(topic)}); err != nil {
			t.Fatal(err)
		}
	}
	var got sync.Map
	bustest.Eventually(t, "what is older than the retention goes", func() bool {
		broker.Clean()
		got.Clear()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		group := bustest.Random()
		var reading sync.WaitGroup
		reading.Go(func() {
			_ = b.Subscribe(ctx, bus.Subscription{Group: group, Topics: []string{"short", "long"}, Handle: func(_ context.Context, batch []bus.Record) error {
				for _, r := range batch {
					got.Store(r.Topic, true)
				}
				return nil
			}})
		})
		defer reading.Wait()
		defer cancel()
		bustest.Eventually(t, "the other stays", func() bool { _, ok := got.Load("long"); return ok })
		_, old := got.Load("short")
		return !old
	})
}
