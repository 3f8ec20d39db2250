// Package inbound knows how channel events lie on topics: on which, under which key, with which headers. Readers that
// a few events in a great many are for have topics of their own, with copies of those: they need not read all.
package inbound

import (
	"strings"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Events is the topic of all events of a channel.
func Events(channel string) bus.Topic { return topic("inbound." + channel) }

// Fetch is the topic of a channel's events that name what its adapter has to fetch: its fetcher's.
func Fetch(channel string) bus.Topic { return topic("fetch." + channel) }

// Revocations is the topic of the events of all channels that tell that a connection's credentials are void: the
// connect service's.
func Revocations() bus.Topic { return topic("revocations") }

func topic(name string) bus.Topic { return bus.Topic{Name: name, Retention: 14 * 24 * time.Hour} }

// Message of an event whose protobuf is value.
func Message(e *pb.ChannelEvent, value []byte, trace []bus.Header) bus.Message {
	key := e.GetConversationKey()
	if e.GetType() == pb.EventType_EVENT_TYPE_REVOCATION {
		key = e.GetConnectionId()
	}
	return bus.Message{
		Topic: Events(e.GetChannel()).Name, Key: key, Value: value,
		Headers: telemetry.EventHeaders(trace, e.GetId(), "tributary."+Word(e.GetType()), "tributary/"+e.GetChannel(), e.GetOrderUs()),
	}
}

// Copies are for the readers of few events: fetch tells whether the adapter's fetcher is to be given this one.
func Copies(e *pb.ChannelEvent, m bus.Message, fetch bool) (copies []bus.Message) {
	if e.GetType() == pb.EventType_EVENT_TYPE_REVOCATION {
		m.Topic = Revocations().Name
		copies = append(copies, m)
	}
	if fetch {
		m.Topic = Fetch(e.GetChannel()).Name
		copies = append(copies, m)
	}
	return copies
}

// Word for a type of events, as it stands in headers and metrics.
func Word(t pb.EventType) string {
	if word, known := words[t]; known {
		return word
	}
	return t.String() // of a newer adapter
}

var words = func() map[pb.EventType]string {
	of := map[pb.EventType]string{}
	for number, name := range pb.EventType_name {
		of[pb.EventType(number)] = strings.ToLower(strings.TrimPrefix(name, "EVENT_TYPE_"))
	}
	return of
}()

// NamesFiles tells whether an event names attachments that nobody has fetched.
func NamesFiles(e *pb.ChannelEvent) bool {
	if e.GetType() != pb.EventType_EVENT_TYPE_MESSAGE && e.GetType() != pb.EventType_EVENT_TYPE_EDIT {
		return false
	}
	for _, a := range e.GetAttachments() {
		if Unfetched(a) {
			return true
		}
	}
	return false
}

// Unfetched tells whether an attachment is neither stored nor known to be lost.
func Unfetched(a *pb.AttachmentRef) bool { return a.GetObject() == "" && a.GetFailed() == "" }

// ProfileOfAuthor is what an event says of the person who did something by it, sealed; nil where it says nothing.
func ProfileOfAuthor(e *pb.ChannelEvent) *pb.SealedPart {
	switch e.GetType() {
	case pb.EventType_EVENT_TYPE_MESSAGE, pb.EventType_EVENT_TYPE_EDIT, pb.EventType_EVENT_TYPE_REACTION, pb.EventType_EVENT_TYPE_MEMBERSHIP:
	default:
		return nil
	}
	for _, part := range e.GetParts() {
		if part.GetCategory() == pb.Category_CATEGORY_PROFILE && part.GetSubjectId() == e.GetAuthorSubject() && e.GetAuthorSubject() != "" {
			return part
		}
	}
	return nil
}
