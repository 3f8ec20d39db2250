package api

import (
	"context"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// openLetter is a record as it lies on a topic: an event or a command.
type openLetter struct {
	Event   []byte `json:"event"`
	Command []byte `json:"command"`
}

func (r *openLetter) Validate() error {
	if (len(r.Event) == 0) == (len(r.Command) == 0) {
		return endpointx.Invalid(map[string]string{"event": "or command is required, and not both"})
	}
	return nil
}

// letterParts is what a record holds.
type letterParts struct {
	Parts []letterPart `json:"parts"`
}

// letterPart is one sealed part: as words where it opens.
type letterPart struct {
	Category  string `json:"category"`
	SubjectID string `json:"subject_id"`
	State     string `json:"state"`
	Opened    any    `json:"opened,omitempty"`

	sealed *pb.SealedPart
	origin seal.Origin
	into   proto.Message
}

// openLetter opens the parts of a record of the caller's workspace, for who has to find out why it could not be handled.
// Who did is logged.
func (a *API) openLetter(ctx context.Context, req openLetter) (letterParts, error) {
	workspace, id, parts := req.parts()
	caller, _ := access.From(ctx)
	if workspace == "" || workspace != caller.WorkspaceID {
		return letterParts{}, problem.NotFound("letter")
	}
	opening := &opening{workspace: workspace}
	for i := range parts {
		p := &parts[i]
		p.Category = strings.ToLower(strings.TrimPrefix(p.sealed.GetCategory().String(), "CATEGORY_"))
		p.SubjectID, p.State = p.sealed.GetSubjectId(), contentUnreadable
		columns := sealedColumns{p.sealed.GetSubjectId(), p.sealed.GetKeyId(), p.sealed.GetCiphertext()}
		opening.add(columns, p.sealed.GetCategory(), p.origin, func(plain []byte, err error) { p.open(plain, err) })
	}
	if err := opening.open(ctx, a.Seal, pb.Purpose_PURPOSE_CONVERSATION); err != nil {
		return letterParts{}, err
	}
	telemetry.From(ctx).Log.InfoContext(ctx, "a dead letter was opened", "workspace_id", workspace, "record_id", id, "key_id", caller.KeyID)
	return letterParts{parts}, nil
}

// parts of a record, each with what it is bound to. An empty workspace: it is no record.
func (r *openLetter) parts() (workspace, id string, parts []letterPart) {
	if len(r.Command) > 0 {
		c := &pb.Command{}
		if len(r.Command) > bus.MaxValueBytes || proto.Unmarshal(r.Command, c) != nil {
			return "", "", nil
		}
		if c.GetContent() != nil {
			parts = append(parts, letterPart{sealed: c.GetContent(), origin: seal.OriginCommand(c.GetMessageId(), c.GetPart(), c.GetAttempt()), into: &pb.Content{}})
		}
		if c.GetAddress() != nil {
			parts = append(parts, letterPart{sealed: c.GetAddress(), origin: seal.OriginProfile(c.GetSubjectId()), into: &pb.Profile{}})
		}
		return c.GetWorkspaceId(), c.GetId(), parts
	}
	e := &pb.ChannelEvent{}
	if len(r.Event) > bus.MaxValueBytes || proto.Unmarshal(r.Event, e) != nil {
		return "", "", nil
	}
	for _, sealed := range e.GetParts() {
		p := letterPart{sealed: sealed}
		switch sealed.GetCategory() {
		case pb.Category_CATEGORY_PROFILE:
			p.origin, p.into = seal.OriginProfile(sealed.GetSubjectId()), &pb.Profile{}
		case pb.Category_CATEGORY_TECHNICAL:
			p.origin, p.into = seal.OriginTechnical(e.GetId()), &pb.Technical{}
		case pb.Category_CATEGORY_COMMERCE:
			p.origin, p.into = seal.OriginCommerce(e.GetConnectionId(), e.GetCommerce().GetKind(), e.GetCommerce().GetId(), e.GetOrderUs()), &pb.Commerce{}
		default:
			p.origin, p.into = seal.OriginContent(e.GetMessageId(), e.GetOrderUs()), &pb.Content{}
			if e.GetType() == pb.EventType_EVENT_TYPE_REACTION {
				p.origin = seal.OriginReaction(e.GetReaction().GetReactionKey(), e.GetOrderUs())
			}
		}
		parts = append(parts, p)
	}
	return e.GetWorkspaceId(), e.GetId(), parts
}

func (p *letterPart) open(plain []byte, err error) {
	p.State = contentState(err)
	if err != nil {
		return
	}
	if proto.Unmarshal(plain, p.into) != nil {
		p.State = contentUnreadable
		return
	}
	if c, ok := p.into.(*pb.Content); ok {
		c.Html = sanitised(c.GetHtml())
	}
	p.Opened = protoJSON{p.into}
}

// protoJSON writes a message as protobuf's JSON does.
type protoJSON struct{ proto.Message }

func (m protoJSON) MarshalJSON() ([]byte, error) { return protojson.Marshal(m.Message) }
