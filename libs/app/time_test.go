package app

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Who is called before it knows the time would refuse what was signed a moment ago.
func TestRequestsWaitUntilTheTimeWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{timeAsked: make(chan struct{})}
		var served atomic.Bool
		h := r.timed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Store(true) }))
		go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/slack/main", nil))
		time.Sleep(time.Second)
		if synctest.Wait(); served.Load() {
			t.Fatal("it is served by whatever the clock says")
		}
		close(r.timeAsked)
		if synctest.Wait(); !served.Load() {
			t.Fatal("it is not served once the time is known")
		}
	})
}
