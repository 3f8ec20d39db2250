package ingress

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Report makes an event durable that this service's own sending has made and that needs no sealing: what
// became of a command. It takes the way of webhooks: published, else spooled. An error means that neither
// could be done; handing the event over again does no harm.
func (in *Ingress) Report(ctx context.Context, event *pb.ChannelEvent) error {
	made, err := proto.Marshal(event)
	if err != nil {
		return err
	}
	return in.deliver(ctx, []item{{
		Workspace: event.GetWorkspaceId(), Connection: event.GetConnectionId(), Made: made,
		// For the counts alone.
		Event:      channel.Event{Type: channel.Type(inbound.Word(event.GetType()))},
		ReceivedAt: in.Clock.Now(), Trace: telemetry.Inject(ctx, nil),
	}})
}
