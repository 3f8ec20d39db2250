package channeltest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/ingress/ingresstest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// mesh puts each sample through a whole ingress, and breaks what is around it: a 2xx means that the events
// are published or will be, the same ones whichever way they took, and nothing personal shows on the way.
func mesh(t *testing.T, kit Kit, samples []sample) {
	for _, s := range posts(samples) {
		result, ok := normalise(t, kit, kit.New(), kit.signed(s, NewSecret))
		if !ok || len(result.Events) == 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			want := arrives(t, kit, s)

			t.Run("the brokers away and no spool", func(t *testing.T) {
				m := surroundings(t, kit, s, nil)
				m.Publisher.SetAway(true)
				m.SpoolKeys.Set(nil)
				require.Equal(t, http.StatusServiceUnavailable, m.Do(kit.webhook(m, s)).Code)
			})
			t.Run("the brokers away", func(t *testing.T) {
				m := surroundings(t, kit, s, nil)
				m.Publisher.SetAway(true)
				require.Equal(t, http.StatusOK, m.Do(kit.webhook(m, s)).Code)
				m.Publisher.SetAway(false)
				comesHome(t, m, want)
			})
			t.Run("the registry away", func(t *testing.T) {
				m := surroundings(t, kit, s, nil)
				m.Registry.FailWith(ingresstest.ErrAway)
				require.Equal(t, http.StatusOK, m.Do(kit.webhook(m, s)).Code)
				m.Registry.FailWith(nil)
				comesHome(t, m, want)
			})
		})
	}
}

// arrives is the way without faults; it gives the events by which the other ways are judged.
func arrives(t *testing.T, kit Kit, s sample) []string {
	var log bytes.Buffer
	m := surroundings(t, kit, s, &log)
	r := kit.webhook(m, s)
	require.Equal(t, http.StatusOK, m.Do(r).Code)
	require.Equal(t, http.StatusUnauthorized, m.Do(overHTTP(kit.request(s))).Code)

	events := published(t, m)
	for _, msg := range m.Publisher.Messages() {
		text := fmt.Sprintf("%s %s %s", msg.Key, msg.Value, msg.Headers)
		kit.silent(t, "a message on the topic", text, kit.New(), kit.signed(s, NewSecret))
	}
	kit.silent(t, "the log", log.String(), kit.New(), kit.signed(s, NewSecret))

	require.Equal(t, http.StatusOK, m.Do(kit.webhook(m, s)).Code)
	assert.Equal(t, append(slices.Clone(events), events...), published(t, m), "a replay has the same ids and keys")
	return events
}

// comesHome: what was taken in while something was away is published once it is back, the same.
func comesHome(t *testing.T, m *ingresstest.Mesh, want []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, m.Flush(ctx))
	assert.Equal(t, want, published(t, m), "the ids are the same as without a fault")
}

// published is what identifies each event. The keys of one-to-one conversations are left out: each mesh
// has subjects of its own.
func published(t *testing.T, m *ingresstest.Mesh) (events []string) {
	for i, e := range m.Publisher.Events(t) {
		group := "direct"
		if e.GetContactSubject() == "" && e.GetAuthorSubject() == "" || e.GetThread().GetGroup() {
			group = m.Publisher.Messages()[i].Key
		}
		assert.NotEmpty(t, m.Publisher.Messages()[i].Key)
		events = append(events, strings.Join([]string{e.GetId(), e.GetType().String(), e.GetMessageId(), group}, " "))
	}
	return events
}

// surroundings know the sample's accounts, and the persons that receipts and profiles are about.
func surroundings(t *testing.T, kit Kit, s sample, log *bytes.Buffer) *ingresstest.Mesh {
	if log == nil {
		log = &bytes.Buffer{}
	}
	m := ingresstest.New(t, kit.New(), kit.Features, log)
	ref := kit.request(s).Ref
	if kit.Features.Ref == "connection" {
		credentials := map[string]string{}
		for i, name := range kit.Features.For(kit.Settings).SignedWith {
			credentials[name] = []string{NewSecret, OldSecret, OldSecret}[min(i, 2)]
		}
		m.Accounts.AddConnection(&pb.Connection{
			Id: ref, WorkspaceId: "w", Channel: kit.Features.Name, Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, Settings: kit.Settings,
		}, credentials)
	} else {
		m.Accounts.AddApp(&pb.App{Id: "app", Channel: kit.Features.Name, Name: ref, ExternalId: kit.AppID}, NewSecret, OldSecret)
	}
	result, _ := normalise(t, kit, kit.New(), kit.signed(s, NewSecret))
	for _, e := range result.Events {
		if e.Account+e.Grantor != "" {
			m.Accounts.AddConnection(&pb.Connection{
				Id: "connection-" + e.Account + e.Grantor, WorkspaceId: "w", Channel: kit.Features.Name, ExternalId: e.Account, Grantor: e.Grantor,
				AppId: "app", Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE,
			}, map[string]string{})
		}
		for _, who := range []*channel.Identity{e.Author, e.Contact} {
			if who != nil {
				m.Known(t, "w", *who)
			}
		}
	}
	return m
}

// webhook is a sample signed as of now, as a request over HTTP.
func (k Kit) webhook(m *ingresstest.Mesh, s sample) *http.Request {
	signed := k.request(s)
	signed.ReceivedAt = m.Clock.Now()
	k.Sign(signed, NewSecret)
	return overHTTP(signed)
}

// overHTTP is a request as it comes to an ingress.
func overHTTP(req *channel.Request) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), req.Method, req.URL.String(), bytes.NewReader(req.Body))
	r.Header = req.Header
	return r
}
