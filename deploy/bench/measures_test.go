package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// TestMain also is the bare handler that the measures start.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bareArgument {
		main()
		return
	}
	dir, err := os.MkdirTemp("", "tributary-bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// built are the mesh's binaries, once a measure needs them.
var built struct {
	sync.Once
	dir string
	err error
}

// short is what measures are given where not their figures are of interest, but that they measure.
func short(t *testing.T) *env {
	t.Helper()
	e := &env{window: 300 * time.Millisecond, rounds: 1, scale: .001, busy: true, dir: t.TempDir(), out: t.Output()}
	if os.Getenv("TRIBUTARY_TEST_KAFKA") == "" || os.Getenv("TRIBUTARY_TEST_POSTGRES") == "" {
		t.Skip("NOT RUN on real parts: TRIBUTARY_TEST_KAFKA and TRIBUTARY_TEST_POSTGRES are not set (make services)")
	}
	built.Do(func() {
		commands, err := filepath.Glob("../../services/*/cmd/*")
		if err != nil {
			built.err = err
			return
		}
		build := exec.Command("go", append([]string{"build", "-o", built.dir}, commands...)...)
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	e.bin = built.dir
	if err := errors.Join(e.validate(), e.parts()); err != nil {
		t.Fatal(err)
	}
	e.shared = &shared{}
	t.Cleanup(func() {
		if err := e.shared.close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// measured runs a measure and wants its figures, each of them more than 0.
func measured(t *testing.T, name string, want ...string) {
	t.Helper()
	measuredIn(t, short(t), name, want...)
}

func measuredIn(t *testing.T, e *env, name string, want ...string) {
	t.Helper()
	all := measures()
	m := all[slices.IndexFunc(all, func(m measure) bool { return m.name == name })]
	figures, err := m.run(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range figures {
		names = append(names, f.Name)
		if f.Value <= 0 || f.Unit == "" {
			t.Errorf("%+v", f)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("figures %q, want %q", names, want)
	}
}

func TestIngest(t *testing.T) {
	measured(t, "ingest", "ingest_ratio", "ingest_per_second", "bare_per_second", "ingest_cpu_us", "bare_cpu_us", "ingest_p99_ms", "bare_p99_ms")
}

func TestIngestOfOtherChannels(t *testing.T) {
	for _, a := range others {
		t.Run(a.channel, func(t *testing.T) {
			measured(t, "ingest_"+a.channel, "ingest_ratio_"+a.channel, "ingest_per_second_"+a.channel, "ingest_cpu_us_"+a.channel, "bare_cpu_us_"+a.channel)
		})
	}
}

func TestSending(t *testing.T) { measured(t, "send", "send_per_second") }

func TestSlowCallers(t *testing.T) {
	measured(t, "slow", "slow_connections_rss_mb", "slow_connections_kb_each")
}

func TestIngestBesideTheMeshsOwnClient(t *testing.T) {
	measured(t, "ingest_bus", "ingest_bus_ratio", "bare_bus_per_second", "bare_bus_cpu_us")
}

// Whoever wrote in the order of the sample would write to one partition at a time, in large batches.
func TestTheBareHandlersKeysAreMixed(t *testing.T) {
	var records []kafka.Message
	for partition := range partitions {
		for n := range 30 {
			for range 3 {
				records = append(records, kafka.Message{Key: fmt.Appendf(nil, "%d/%d", partition, n)})
			}
		}
	}
	keys := mixed(records)
	if len(keys) != partitions*30 || !slices.Equal(keys, mixed(records)) {
		t.Fatal(len(keys))
	}
	for from := 0; from < len(keys); from += 64 { // as many as are under way at once
		of := map[string]bool{}
		for _, key := range keys[from:min(from+64, len(keys))] {
			partition, _, _ := strings.Cut(key, "/")
			of[partition] = true
		}
		if len(of) < partitions/2 {
			t.Errorf("64 keys in a row are of %d partitions", len(of))
		}
	}
}

func TestIngestOfNewPeople(t *testing.T) {
	measured(t, "ingest_cold", "ingest_cold_ratio", "ingest_cold_per_second", "ingest_cold_cpu_us", "ingest_cold_p99_ms")
}

// A bare side that takes what is not signed would be measured for less than it must do.
func TestTheBareHandlerRefusesForgeries(t *testing.T) {
	e := short(t)
	topic := fmt.Sprintf("bench_test_%d", time.Now().UnixNano())
	b, err := startBare(t.Context(), bareOrder{Brokers: e.kafka, Topic: topic, Value: []byte("v"), Keys: []string{"k"}, Check: "slack", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.Post("http://"+b.address+webhookPath, "application/json", strings.NewReader(webhookBody))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Error(resp.Status)
	}
}

func TestTheLoad(t *testing.T) {
	answers := 0
	var mu sync.Mutex
	handler := func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if answers++; answers%4 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(handler)}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	made := newWebhooks(0, knownPeople)
	got, err := hammer(t.Context(), l.Addr().String(), 8, 100*time.Millisecond, made.next)
	if err != nil {
		t.Fatal(err)
	}
	late := answers - got.accepted - got.refused
	if late < 1 || late > 8 || got.refused < got.accepted/4 || got.refused > got.accepted/2 || len(got.latency) != got.accepted || answers != made.n {
		t.Errorf("%d answered, %d accepted, %d refused, %d made", answers, got.accepted, got.refused, made.n)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := hammer(t.Context(), l.Addr().String(), 1, time.Second, made.next); err == nil {
		t.Error("a server that is gone accepts webhooks")
	}
}

func TestEndToEnd(t *testing.T) {
	measured(t, "end_to_end", "end_to_end_p99_ms", "end_to_end_p50_ms", "webhook_p99_ms", "bare_hop_p99_ms", "bare_commit_p99_ms")
}

func TestTheWholeWay(t *testing.T) { measured(t, "whole_way", "events_per_cpu_second") }

func TestRebalance(t *testing.T) {
	measured(t, "rebalance", "rebalance_pause_ms_max", "steady_pause_ms_max")
}

func TestAPaceThatIsNotKeptUpIsAnError(t *testing.T) {
	slow := func(ctx context.Context, _, _ int) error { return wait(ctx, 20*time.Millisecond) }
	if err := paced(t.Context(), 100, 1, 10*time.Second, slow); err == nil {
		t.Error("one worker that takes 20 ms keeps up with 100 a second")
	}
	broken := errors.New("broken")
	if err := paced(t.Context(), 100, 1, time.Second, func(context.Context, int, int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	var n atomic.Int64
	err := paced(t.Context(), 100, 2, 100*time.Millisecond, func(context.Context, int, int) error { n.Add(1); return nil })
	if err != nil || n.Load() != 10 {
		t.Errorf("%d of 10 calls: %v", n.Load(), err)
	}
}

func TestAMessageIsToldOfOnce(t *testing.T) {
	s := &stream{told: map[string]time.Time{}}
	for _, line := range []string{
		"id: 1", "event: message.created", `data: {"type":"message.created","conversation_id":"c","message_id":"m"}`,
		`data: {"type":"message.updated","conversation_id":"c","message_id":"other"}`,
	} {
		s.line(line)
	}
	first, told, err := s.when("m")
	if !told || err != nil {
		t.Fatal(told, err)
	}
	s.line(`data: {"type":"message.created","conversation_id":"c","message_id":"m"}`)
	if again, _, _ := s.when("m"); !again.Equal(first) {
		t.Error("the second time counts")
	}
	if _, told, _ := s.when("other"); told {
		t.Error("an update counts as the message's coming")
	}
}

// The measures of one filled topic.
func TestWhatTheConversationServiceIsMeasuredBy(t *testing.T) {
	e := short(t)
	// A window must see some of the transactions that drain, each of some hundred events here, and end before the topic is drained.
	e.scale, e.window, e.cacheTTL = .04, time.Second, time.Second
	measuredIn(t, e, "read", "api_list_p99_ms", "api_list_per_second", "search_messages_per_second")
	measuredIn(t, e, "erase", "erase_work_seconds", "erase_wait_seconds")
	e.window = 600 * time.Millisecond // less than a fast machine takes for all
	measuredIn(t, e, "drain", "drain_ratio", "drain_per_second", "copy_per_second")
}
