package egress

import (
	"errors"
	"strings"
	"time"

	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// receipt makes the event that says what became of a command. Its id is made of command and status, so
// that a double is dropped as seen.
func (s *sender) receipt(cmd *pb.Command, r *pb.Receipt) *pb.ChannelEvent {
	r.MessageId, r.Part, r.Attempt = cmd.GetMessageId(), cmd.GetPart(), cmd.GetAttempt()
	e := s.event(cmd, pb.EventType_EVENT_TYPE_RECEIPT)
	e.Id = channel.EventID(cmd.GetConnectionId(), channel.TypeReceipt, "egress/"+cmd.GetId()+"/"+word(r.GetStatus()), time.UnixMicro(cmd.GetPosition()))
	e.ConversationKey = cmd.GetConversationKey()
	e.Direction = pb.Direction_DIRECTION_OUTBOUND
	e.Receipt = r
	return e
}

// revocation makes the event that says that a connection's credentials are void.
func (s *sender) revocation(cmd *pb.Command, reason string) *pb.ChannelEvent {
	e := s.event(cmd, pb.EventType_EVENT_TYPE_REVOCATION)
	e.Id = channel.EventID(cmd.GetConnectionId(), channel.TypeRevocation, "egress/"+cmd.GetId(), time.UnixMicro(cmd.GetPosition()))
	e.Reason = reason
	return e
}

func (s *sender) event(cmd *pb.Command, t pb.EventType) *pb.ChannelEvent {
	now := s.clock.NowMicros()
	return &pb.ChannelEvent{
		WorkspaceId: cmd.GetWorkspaceId(), ConnectionId: cmd.GetConnectionId(), Channel: s.channel,
		Type: t, OrderUs: now, ReceivedAtUs: now, OrderReceived: true, SourceType: "egress",
	}
}

func failed(class pb.ErrorClass, code string) *pb.Receipt {
	return &pb.Receipt{Status: pb.Status_STATUS_FAILED, ErrorClass: class, ErrorCode: code}
}

func unknown(class pb.ErrorClass, code string) *pb.Receipt {
	return &pb.Receipt{Status: pb.Status_STATUS_UNKNOWN, ErrorClass: class, ErrorCode: code}
}

// deferred closes the attempt and lets the next one leave at notBefore; a zero time is at once.
func deferred(code string, notBefore time.Time) *pb.Receipt {
	r := &pb.Receipt{Status: pb.Status_STATUS_DEFERRED, ErrorCode: code}
	if !notBefore.IsZero() {
		r.NotBeforeUs = notBefore.UnixMicro()
	}
	return r
}

func untilActive(code string, notBefore time.Time) *pb.Receipt {
	r := deferred(code, notBefore)
	r.ErrorClass, r.UntilActive = pb.ErrorClass_ERROR_CLASS_REAUTHORISE, true
	return r
}

// refused is the verdict of an error that is final.
func refused(err error) *pb.Receipt {
	var e *channel.Error
	switch {
	case !errors.As(err, &e):
		return failed(pb.ErrorClass_ERROR_CLASS_REJECT, codeUnsupported)
	case e.Class == "":
		return failed(pb.ErrorClass_ERROR_CLASS_REJECT, e.Code)
	}
	return failed(errorClass(e.Class), e.Code)
}

func errorClass(c channel.Class) pb.ErrorClass {
	return pb.ErrorClass(pb.ErrorClass_value["ERROR_CLASS_"+strings.ToUpper(string(c))])
}

// word is a status in lower case, without its enum's prefix.
func word(s pb.Status) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATUS_"))
}
