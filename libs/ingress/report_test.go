package ingress_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/ingress/ingresstest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestWhatBecameOfACommandIsPublishedElseSpooled(t *testing.T) {
	report := &pb.ChannelEvent{
		Id: "receipt-1", WorkspaceId: "workspace-1", ConnectionId: "connection-1", ConversationKey: "conversation-1",
		Type: pb.EventType_EVENT_TYPE_RECEIPT, OrderUs: 7, Receipt: &pb.Receipt{MessageId: "m", Status: pb.Status_STATUS_SENT},
	}
	m := newMesh(t)
	require.NoError(t, m.Report(t.Context(), report))
	m.Publisher.SetAway(true)
	m.Registry.FailWith(ingresstest.ErrAway) // it is not asked
	require.NoError(t, m.Report(t.Context(), report))
	require.Equal(t, 1, spooled(t, m))

	m.Restart(t)
	m.Publisher.SetAway(false)
	m.Registry.FailWith(nil)
	require.NoError(t, m.Flush(t.Context()))
	got := m.Publisher.Events(t)
	require.Len(t, got, 2)
	for i, e := range got {
		require.True(t, proto.Equal(report, e), "%v", e)
		require.Equal(t, "conversation-1", m.Publisher.Messages()[i].Key)
	}
}
