package slack

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/ingress/ingresstest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// BenchmarkWebhook is all that the service does for a message of somebody known, but HTTP and the broker.
func BenchmarkWebhook(b *testing.B) {
	sample, err := os.ReadFile("testdata/message_rich_text.http")
	if err != nil {
		b.Fatal(err)
	}
	_, body, _ := bytes.Cut(sample, []byte("\n\n"))
	k := kit(b)
	m := ingresstest.New(b, k.New(), k.Features, nil)
	m.Accounts.AddApp(&pb.App{Id: "app", Channel: "slack", Name: "main", ExternalId: ourApp}, "secret")
	m.Accounts.AddConnection(&pb.Connection{
		Id: "connection", WorkspaceId: "w", Channel: "slack", ExternalId: "T061EG9R6", AppId: "app",
		Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE,
	}, nil)
	header := http.Header{}
	for name, values := range standin.SlackHeader("secret", body, m.Clock.Now()) {
		header[name] = values
	}
	b.ReportAllocs()
	n := 0
	for ; b.Loop(); n++ {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/webhooks/slack/main", bytes.NewReader(body))
		r.Header = header
		if w := m.Do(r); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	if published := len(m.Publisher.Messages()); published != n {
		b.Fatal(published, n)
	}
}
