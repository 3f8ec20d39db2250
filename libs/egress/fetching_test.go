package egress

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func bytesOf(s string) io.Reader { return bytes.NewReader([]byte(s)) }

func readAll(t *testing.T, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// said makes a message event as ingress does, naming files to be fetched from urls.
func (m *mesh) said(external string, urls ...string) *pb.ChannelEvent {
	id := channel.MessageID("c1", external, time.Time{})
	e := &pb.ChannelEvent{
		Id: channel.EventID("c1", channel.TypeMessage, external, time.Time{}), WorkspaceId: "w1", ConnectionId: "c1", Channel: "model",
		ConversationKey: "conversation", Type: pb.EventType_EVENT_TYPE_MESSAGE, OrderUs: 42, Direction: pb.Direction_DIRECTION_INBOUND,
		AuthorSubject: m.subject.ID, ContactSubject: m.subject.ID, ExternalId: external, MessageId: id, IdentityKind: "model_user",
	}
	content := &pb.Content{Text: "look"}
	for _, u := range urls {
		a := channel.AttachmentID(id, u)
		e.Attachments = append(e.Attachments, &pb.AttachmentRef{Id: a, Kind: "image"})
		content.Attachments = append(content.Attachments, &pb.Attachment{Id: a, Url: u})
	}
	e.Parts = []*pb.SealedPart{
		m.seal(pb.Category_CATEGORY_CONTENT, seal.OriginContent(id, 42), content),
		m.seal(pb.Category_CATEGORY_PROFILE, seal.OriginProfile(m.subject.ID), &pb.Profile{IdentityKind: "model_user", IdentityValue: "U1"}),
	}
	return e
}

func (m *mesh) publish(events ...*pb.ChannelEvent) {
	m.t.Helper()
	for _, e := range events {
		value, err := proto.Marshal(e)
		require.NoError(m.t, err)
		require.NoError(m.t, m.bus.Publish(m.t.Context(), bus.Message{Topic: "fetch.model", Key: e.GetConversationKey(), Value: value}))
	}
}

// attachments gives what was said of an attachment.
func (m *mesh) attachments(id string) (of []*pb.AttachmentRef) {
	for _, e := range m.eventsOf(pb.EventType_EVENT_TYPE_ATTACHMENT) {
		if a := e.GetAttachments()[0]; a.GetId() == id {
			of = append(of, a)
		}
	}
	return of
}

func (m *mesh) attachment(of *pb.ChannelEvent) *pb.AttachmentRef {
	m.t.Helper()
	id := of.GetAttachments()[0].GetId()
	bustest.Eventually(m.t, "the attachment", func() bool { return len(m.attachments(id)) > 0 })
	return m.attachments(id)[0]
}

func TestAttachmentsAreFetchedSealedAndTold(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		var asked atomic.Int64
		files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			_, _ = w.Write([]byte("%PDF-1.7 canary"))
		}))
		t.Cleanup(files.Close)
		stop := m.run()
		event := m.said("e1", files.URL+"/file")
		m.publish(event)
		got := m.attachment(event)
		require.Empty(t, got.GetFailed())
		require.Equal(t, "application/pdf", got.GetContentType())
		require.EqualValues(t, 15, got.GetSize())
		key, err := seal.OpenWith(m.subject, got.GetKey(), seal.OriginAttachment(got.GetId()))
		require.NoError(t, err)
		r, err := m.bucket.Open(t.Context(), got.GetObject(), key)
		require.NoError(t, err)
		require.Equal(t, "%PDF-1.7 canary", readAll(t, r))
		told := m.eventsOf(pb.EventType_EVENT_TYPE_ATTACHMENT)[0]
		require.Equal(t, "e1", told.GetTargetExternalId())
		require.Equal(t, event.GetMessageId(), told.GetMessageId())
		require.Equal(t, "conversation", told.GetConversationKey())
		stop()

		// Redelivered, replayed, or named by an edit: it is there.
		m.run()
		edit := m.said("e1", files.URL+"/file")
		edit.Id, edit.Type, edit.TargetExternalId, edit.ExternalId = "edit", pb.EventType_EVENT_TYPE_EDIT, "e1", ""
		last := m.said("e2", files.URL+"/other")
		m.publish(event, edit, last)
		m.attachment(last)
		require.EqualValues(t, 2, asked.Load())
		require.Len(t, m.attachments(got.GetId()), 1, "what is said again has the same id")
	})
}

func TestAttachmentsThatCannotBeFetched(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	var flaky, down atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) })
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, _ *http.Request) {
		if flaky.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("here"))
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { down.Add(1); w.WriteHeader(http.StatusBadGateway) })
	files := httptest.NewServer(mux)
	t.Cleanup(files.Close)
	m.run(func(cfg *Config, _ *Deps) { cfg.FetchTries = 3 })
	for url, reason := range map[string]string{
		files.URL + "/gone":        "gone",
		files.URL + "/large":       "too_large",
		files.URL + "/flaky":       "",
		files.URL + "/down":        "unavailable",
		"http://127.0.0.2:1/x":     "forbidden_address",
		"http://169.254.169.254/x": "forbidden_address",
		"http://[::1]:1/x":         "forbidden_address",
	} {
		event := m.said(url, url)
		m.publish(event)
		got := m.attachment(event)
		require.Equal(t, reason, got.GetFailed(), url)
		require.Equal(t, reason == "", got.GetObject() != "", url)
	}
	require.EqualValues(t, 3, down.Load(), "a passing failure is met a bounded number of times")

	m.accounts.set("c1", pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE)
	event := m.said("later", files.URL+"/flaky")
	m.publish(event)
	require.Equal(t, reasonNotConnected, m.attachment(event).GetFailed())
}

func TestNothingIsFetchedForWhoIsGone(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	files := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("fetched") }))
	t.Cleanup(files.Close)
	gone := m.said("gone", files.URL)
	m.registry.Destroy(m.subject.ID)
	m.keys.Evict(m.subject.ID)
	next, err := m.keys.Acquire(t.Context(), []seal.Act{{Identity: seal.Identity{Workspace: "w1", Kind: "model_user", Value: "U2"}}})
	require.NoError(t, err)
	m.subject = next[0]
	m.provider.profile = func(id channel.Identity) (channel.Profile, bool, error) {
		return channel.Profile{Name: id.Value}, true, nil
	}
	after := m.said("after")
	m.run()
	m.publish(gone, after)
	bustest.Eventually(t, "the profile of another", func() bool { return len(m.eventsOf(pb.EventType_EVENT_TYPE_PROFILE)) == 1 })
	require.Empty(t, m.eventsOf(pb.EventType_EVENT_TYPE_ATTACHMENT))
}

func TestTheRegistryIsWaitedFor(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }))
	t.Cleanup(files.Close)
	event := m.said("e1", files.URL)
	m.keys.Evict(m.subject.ID)
	m.registry.FailWith(errors.New("away"))
	m.run()
	m.publish(event)
	bustest.Eventually(t, "it is asked", func() bool { return m.registry.Calls("Unwrap") > 1 })
	m.registry.FailWith(nil)
	require.Empty(t, m.attachment(event).GetFailed())
}

func TestProfilesAreAskedForOnceADay(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	m.provider.profile = func(id channel.Identity) (channel.Profile, bool, error) {
		return channel.Profile{Name: "Name of " + id.Value, Handle: "h"}, true, nil
	}
	m.run()
	for _, external := range []string{"e1", "e2", "e3"} {
		m.publish(m.said(external))
	}
	bustest.Eventually(t, "the profile", func() bool { return len(m.eventsOf(pb.EventType_EVENT_TYPE_PROFILE)) == 1 })
	event := m.eventsOf(pb.EventType_EVENT_TYPE_PROFILE)[0]
	require.Equal(t, m.subject.ID, event.GetAuthorSubject())
	opened, err := m.keys.Open(t.Context(), pb.Purpose_PURPOSE_DELIVERY, []seal.Sealed{{Workspace: "w1", Part: event.GetParts()[0], Origin: seal.OriginProfile(m.subject.ID)}})
	require.NoError(t, err)
	require.NoError(t, opened[0].Err)
	profile := &pb.Profile{}
	require.NoError(t, proto.Unmarshal(opened[0].Plain, profile))
	require.Equal(t, "Name of U1", profile.GetName())
	require.Equal(t, "U1", profile.GetIdentityValue(), "what a reply is addressed to is kept")

	m.publish(m.said("e4", "http://127.0.0.2:1/x"))
	bustest.Eventually(t, "the last event", func() bool { return len(m.eventsOf(pb.EventType_EVENT_TYPE_ATTACHMENT)) == 1 })
	m.provider.mu.Lock()
	defer m.provider.mu.Unlock()
	require.Equal(t, 1, m.provider.profiles)
}

func TestAProviderWithoutProfilesStopsNothing(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	for name, profile := range map[string]func(channel.Identity) (channel.Profile, bool, error){
		"down": func(channel.Identity) (channel.Profile, bool, error) {
			return channel.Profile{}, false, &channel.Error{Class: channel.ClassRetry, Code: "x"}
		},
		"refuses": func(channel.Identity) (channel.Profile, bool, error) {
			return channel.Profile{}, false, &channel.Error{Class: channel.ClassReject, Code: "x"}
		},
		"panics": func(channel.Identity) (channel.Profile, bool, error) { panic("canary") },
	} {
		t.Run(name, func(t *testing.T) {
			m.provider.mu.Lock()
			m.provider.profile = profile
			m.provider.mu.Unlock()
			stop := m.run(func(cfg *Config, _ *Deps) { cfg.FetchTries = 1 })
			defer stop()
			event := m.said("after "+name, "http://127.0.0.2:1/x")
			m.publish(m.said("by "+name), event)
			require.Equal(t, "forbidden_address", m.attachment(event).GetFailed())
		})
	}
}
