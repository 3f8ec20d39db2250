package mesh

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAnswersOfHTTP(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":                        "200 true",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no":                         "200 false",
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nA: b\r\n\r\n": "503 true",
		"HTTP/1.1 200 OK\r\nContent-Le":                                         "0 false",
	} {
		status, whole, err := Answered([]byte(answer))
		if got := fmt.Sprintf("%d %t", status, whole); got != want || err != nil {
			t.Errorf("%q: %s %v", answer, got, err)
		}
	}
	for _, answer := range []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "nonsense\r\n\r\n"} {
		if _, _, err := Answered([]byte(answer)); err == nil {
			t.Errorf("%q is an answer", answer)
		}
	}
}

func TestAConnectionIsKeptUntilEitherEndsIt(t *testing.T) {
	clients := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		clients[r.RemoteAddr] = true
		body, _ := io.ReadAll(r.Body)
		if got := r.Header.Get("X-Signature") + " " + r.URL.RequestURI() + " " + string(body); got != "signed /webhooks/a?b=c body" {
			t.Errorf("the server got %q", got)
		}
		if len(clients) == 2 {
			w.Header().Set("Connection", "close")
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	c := NewClient(server.URL).Connection()
	defer c.Close()
	for n, connections := range []int{1, 1, 2, 3} {
		if n == 2 {
			c.Close()
		}
		status, err := c.Webhook(t.Context(), "/webhooks/a?b=c", http.Header{"X-Signature": {"signed"}}, []byte("body"))
		if status != http.StatusAccepted || err != nil || len(clients) != connections {
			t.Errorf("webhook %d over %d connections: %d, %v", n, len(clients), status, err)
		}
	}
	server.Close()
	if status, err := c.Webhook(t.Context(), "/", nil, nil); err == nil {
		t.Errorf("a server that is gone answers %d", status)
	}
}
