package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestTheFrontRoutesToWhatIsReady, each in turn, and hides no fault of a replica.
func TestTheFrontRoutesToWhatIsReady(t *testing.T) {
	var unready [2]atomic.Bool
	var asked [2]atomic.Int64
	var processes []*Process
	for n := range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/readyz":
				if asked[n].Add(1); r.URL.Path == "/webhooks/slack/broken" {
					panic(http.ErrAbortHandler)
				}
				fmt.Fprint(w, r.Host)
			case unready[n].Load():
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer s.Close()
		processes = append(processes, &Process{Name: fmt.Sprint("slack-", n), Service: "slack", URL: s.URL})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFront(l, processes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	routed := func(first, second bool) {
		t.Helper()
		if err := Eventually(context.Background(), 5*time.Second, func() error {
			if f.routes(processes[0]) != first || f.routes(processes[1]) != second {
				return fmt.Errorf("not seen")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	routed(true, true)
	for range 10 {
		if status, host := get("/webhooks/slack/x"); status != 200 || host != l.Addr().String() {
			t.Fatalf("answered %d, and asked for %s", status, host)
		}
	}
	if a, b := asked[0].Load(), asked[1].Load(); a != 5 || b != 5 {
		t.Fatalf("asked %d and %d times, not each in turn", a, b)
	}
	if status, _ := get("/webhooks/slack/broken"); status != http.StatusBadGateway || asked[0].Load()+asked[1].Load() != 11 {
		t.Fatalf("what a replica broke off is answered %d, after %d requests", status, asked[0].Load()+asked[1].Load())
	}
	unready[0].Store(true)
	routed(false, true)
	before := asked[0].Load()
	for range 10 {
		get("/webhooks/slack/x")
	}
	if asked[0].Load() != before {
		t.Fatal("a replica that is not ready is asked")
	}
	unready[1].Store(true)
	routed(false, false)
	if status, _ := get("/webhooks/slack/x"); status != http.StatusServiceUnavailable {
		t.Fatalf("answered %d while none is ready", status)
	}
	if status, _ := get("/v1/conversations"); status != http.StatusServiceUnavailable {
		t.Fatalf("a service without replicas answers %d", status)
	}
}
