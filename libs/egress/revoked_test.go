package egress

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestCredentialsThatAreVoidShowWhileFetchingToo(t *testing.T) {
	void := &channel.Error{Class: channel.ClassReauthorise, Code: "token_revoked"}
	for name, c := range map[string]struct {
		refuse func(*provider)
		event  func(*mesh) *pb.ChannelEvent
	}{
		"a profile": {
			func(p *provider) {
				p.profile = func(channel.Identity) (channel.Profile, bool, error) { return channel.Profile{}, false, void }
			},
			func(m *mesh) *pb.ChannelEvent { return m.said("e1") },
		},
		"where a file lies": {
			func(p *provider) {
				p.locate = func(channel.MediaRef) (channel.MediaRef, error) { return channel.MediaRef{}, void }
			},
			func(m *mesh) *pb.ChannelEvent { return m.said("e1", "") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, bustest.EmbeddedCluster(t))
			m.provider.mu.Lock()
			c.refuse(m.provider)
			m.provider.mu.Unlock()
			m.run()
			before := time.Now().Add(-time.Minute).UnixMicro()
			event := c.event(m)
			m.publish(event)
			bustest.Eventually(t, "the revocation", func() bool { return len(m.eventsOf(pb.EventType_EVENT_TYPE_REVOCATION)) > 0 })
			said := m.eventsOf(pb.EventType_EVENT_TYPE_REVOCATION)
			require.Len(t, said, 1)
			require.Equal(t, "token_revoked", said[0].GetReason())
			require.Equal(t, "c1", said[0].GetConnectionId())
			require.Equal(t, "w1", said[0].GetWorkspaceId())
			require.Empty(t, said[0].GetConversationKey(), "as a send says it: keyed by the connection")
			require.Empty(t, said[0].GetAuthorSubject(), "of nobody")
			require.Greater(t, said[0].GetOrderUs(), before, "of when the provider said so, not of the event")
			if len(event.GetAttachments()) > 0 {
				require.Equal(t, "token_revoked", m.attachment(event).GetFailed())
			}
		})
	}
}

func TestOtherRefusalsRevokeNothing(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	m.provider.profile = func(channel.Identity) (channel.Profile, bool, error) {
		return channel.Profile{}, false, &channel.Error{Class: channel.ClassReject, Code: "missing_scope"}
	}
	m.provider.locate = func(channel.MediaRef) (channel.MediaRef, error) {
		return channel.MediaRef{}, &channel.Error{Class: channel.ClassReject, Code: "file_not_found"}
	}
	m.run()
	event := m.said("e1", "")
	m.publish(event)
	require.Equal(t, "file_not_found", m.attachment(event).GetFailed())
	require.Empty(t, m.eventsOf(pb.EventType_EVENT_TYPE_REVOCATION))
}

func TestAFileThatAnEventOnlyNamesIsLookedFor(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("%PDF-1.7")) }))
	t.Cleanup(files.Close)
	m.provider.locate = func(ref channel.MediaRef) (channel.MediaRef, error) {
		if m.provider.located < 2 { // a passing failure is met again
			return channel.MediaRef{}, &channel.Error{Class: channel.ClassRetry, Code: "ratelimited"}
		}
		ref.URL = files.URL
		return ref, nil
	}
	m.run()
	event := m.said("e1", "")
	m.publish(event)
	got := m.attachment(event)
	require.Empty(t, got.GetFailed())
	require.Equal(t, "application/pdf", got.GetContentType())

	known := m.said("e2", files.URL)
	m.publish(known)
	require.Empty(t, m.attachment(known).GetFailed())
	m.provider.mu.Lock()
	defer m.provider.mu.Unlock()
	require.Equal(t, 2, m.provider.located, "what says where it lies is not asked about")
}
