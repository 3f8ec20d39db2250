package standalone

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus/bustest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestALetterIsOpenedByTheAPIAlone(t *testing.T) {
	m := newMortuary(t)
	m.publish("a", "poison")
	place := ""
	bustest.Eventually(t, "a dead letter", func() bool {
		words := strings.Fields(m.run(app.ExitOK, "dead", "list"))
		place = words[len(words)-1]
		return strings.HasPrefix(place, "dead.inbound.slack/")
	})
	refuse := true
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var asked struct{ Event []byte }
		event := &pb.ChannelEvent{}
		if err != nil || json.Unmarshal(body, &asked) != nil || proto.Unmarshal(asked.Event, event) != nil || event.GetId() != "a" ||
			r.URL.Path != "/v1/letters/open" || r.Header.Get("Authorization") != "Bearer trb_key" {
			t.Errorf("asked %s %s", r.URL.Path, body)
		}
		if refuse {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"title":"The key may not do this","detail":"it needs letters:open"}`)
			return
		}
		_, _ = io.WriteString(w, `{"parts":[{"category":"content","state":"open","opened":{"text":"hello"}}]}`)
	}))
	defer api.Close()

	require.Contains(t, m.run(app.ExitFailed, "dead", "show", place, "--open", "--url", api.URL), "an API key is needed")
	m.environ = append(m.environ, "TRIBUTARY_API_KEY=trb_key")
	require.Contains(t, m.run(app.ExitFailed, "dead", "show", place, "--open", "--url", api.URL), "403 The key may not do this it needs letters:open")
	refuse = false
	require.Contains(t, m.run(app.ExitOK, "dead", "show", place, "--open", "--url", api.URL), `"text": "hello"`)
	require.NotContains(t, m.run(app.ExitOK, "dead", "show", place), "hello")
}
