package ingress

import (
	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// The contract's words in the mesh's own.
var (
	eventTypes = map[channel.Type]pb.EventType{
		channel.TypeMessage:    pb.EventType_EVENT_TYPE_MESSAGE,
		channel.TypeEdit:       pb.EventType_EVENT_TYPE_EDIT,
		channel.TypeDeletion:   pb.EventType_EVENT_TYPE_DELETION,
		channel.TypeReaction:   pb.EventType_EVENT_TYPE_REACTION,
		channel.TypeReceipt:    pb.EventType_EVENT_TYPE_RECEIPT,
		channel.TypeProfile:    pb.EventType_EVENT_TYPE_PROFILE,
		channel.TypeConsent:    pb.EventType_EVENT_TYPE_CONSENT,
		channel.TypeRevocation: pb.EventType_EVENT_TYPE_REVOCATION,
		channel.TypeMembership: pb.EventType_EVENT_TYPE_MEMBERSHIP,
		channel.TypeCommerce:   pb.EventType_EVENT_TYPE_COMMERCE,
		channel.TypePrivacy:    pb.EventType_EVENT_TYPE_PRIVACY,
	}
	statuses = map[channel.Status]pb.Status{
		channel.StatusSent:      pb.Status_STATUS_SENT,
		channel.StatusFailed:    pb.Status_STATUS_FAILED,
		channel.StatusDelivered: pb.Status_STATUS_DELIVERED,
		channel.StatusRead:      pb.Status_STATUS_READ,
	}
	errorClasses = map[channel.Class]pb.ErrorClass{
		channel.ClassRetry:        pb.ErrorClass_ERROR_CLASS_RETRY,
		channel.ClassReauthorise:  pb.ErrorClass_ERROR_CLASS_REAUTHORISE,
		channel.ClassReject:       pb.ErrorClass_ERROR_CLASS_REJECT,
		channel.ClassWindowClosed: pb.ErrorClass_ERROR_CLASS_WINDOW_CLOSED,
		channel.ClassOptedOut:     pb.ErrorClass_ERROR_CLASS_OPTED_OUT,
		channel.ClassExpired:      pb.ErrorClass_ERROR_CLASS_EXPIRED,
	}
)

func receipt(r *channel.Receipt) *pb.Receipt {
	if r == nil {
		return nil
	}
	out := &pb.Receipt{
		MessageId: r.MessageID, Part: r.Part, Attempt: r.Attempt, Status: statuses[r.Status],
		ErrorClass: errorClasses[r.Class], ErrorCode: r.Code, ExternalId: r.ExternalID, SentOrderUs: r.SentOrder,
	}
	if !r.Through.IsZero() {
		out.ThroughUs = r.Through.UnixMicro()
	}
	return out
}
