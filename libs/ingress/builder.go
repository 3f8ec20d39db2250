package ingress

import (
	"errors"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// builder makes one ChannelEvent.
type builder struct {
	*item
	in *Ingress
	// subjects of the item's persons, in their order.
	subjects []seal.Subject
	sealer   *seal.Sealer // of who had the last part
	plain    []byte       // of the last part
}

func (b *builder) author() (s seal.Subject) {
	if b.Event.Author != nil && len(b.subjects) > 0 {
		s = b.subjects[0]
	}
	return s
}

func (b *builder) contact() (s seal.Subject) {
	if b.Event.Contact != nil && len(b.subjects) > 0 {
		s = b.subjects[len(b.subjects)-1]
	}
	return s
}

// owner is whose key seals the content: the contact's one-to-one, else the author's, else the group's.
func (b *builder) owner() (s seal.Subject) {
	if s = b.contact(); s.ID == "" && len(b.subjects) > 0 {
		s = b.subjects[0]
	}
	return s
}

// base is what every event has: nothing that came from a person.
func (b *builder) base() *pb.ChannelEvent {
	e := &b.Event
	event := &pb.ChannelEvent{
		Id:           channel.EventID(b.Connection, e.Type, e.Key, e.IDTime),
		WorkspaceId:  b.Workspace,
		ConnectionId: b.Connection,
		Channel:      b.in.Adapter.Name(),
		OrderUs:      e.Order,
		ReceivedAtUs: b.ReceivedAt.UnixMicro(),
	}
	if e.Order == 0 {
		event.OrderUs, event.OrderReceived = event.ReceivedAtUs, true
	}
	return event
}

// erased is an event of which only the id is left, so that it is remembered as seen.
func (b *builder) erased() *pb.ChannelEvent {
	event := b.base()
	event.Type = pb.EventType_EVENT_TYPE_ERASED
	if event.ConversationKey = b.group(); event.ConversationKey == "" {
		event.ConversationKey = channel.GroupKey(b.Connection, b.Event.Key)
	}
	return event
}

// event is sealed whole; nil where it can't be.
func (b *builder) event() *pb.ChannelEvent {
	e := &b.Event
	event := b.base()
	event.Type = eventTypes[e.Type]
	event.ConversationKey = b.conversationKey()
	event.AuthorSubject, event.ContactSubject = b.author().ID, b.contact().ID
	event.ExternalId, event.TargetExternalId, event.ReplyToExternalId = e.ExternalID, e.Target, e.ReplyTo
	event.SourceType, event.Automated, event.Reason = e.SourceType, e.Automated, e.Reason
	event.MessageId = b.messageID()
	if acts(e) || e.Type == channel.TypeConsent {
		event.Direction = pb.Direction_DIRECTION_INBOUND
		if e.Outbound {
			event.Direction = pb.Direction_DIRECTION_OUTBOUND
		}
	}
	if e.Author != nil {
		event.IdentityKind = e.Author.Kind
	} else if e.Contact != nil {
		event.IdentityKind = e.Contact.Kind
	}
	if e.Thread.ID != "" || e.Thread.Group {
		event.Thread = &pb.Thread{Id: e.Thread.ID, Group: e.Thread.Group}
	}
	if e.Consent != nil {
		event.Consent = &pb.Consent{Action: e.Consent.Action, Source: e.Consent.Source, WorkspaceWide: e.Consent.WorkspaceWide}
	}
	event.Receipt = receipt(e.Receipt)
	if errors.Join(b.content(event), b.reaction(event), b.profiles(event), b.technical(event), b.commerce(event)) != nil {
		return nil
	}
	return event
}

// messageID of the message that the event is, or is about. A receipt's message is the mesh's own.
func (b *builder) messageID() string {
	external := b.Event.ExternalID
	switch b.Event.Type {
	case channel.TypeEdit, channel.TypeDeletion, channel.TypeReaction:
		external = b.Event.Target
	case channel.TypeMessage:
	default:
		return ""
	}
	return channel.MessageID(b.Connection, external, b.in.messageTime(external))
}

// group is the conversation key of a group thread; "" where the event names none.
func (it *item) group() string {
	t := it.Event.Thread
	key := t.Key
	if key == "" {
		key = t.ID
	}
	if !t.Group || key == "" {
		return ""
	}
	return channel.GroupKey(it.Connection, key)
}

// conversationKey also is the partition key. An event that names no conversation is found by the message
// it is about; the key then only keeps redeliveries together.
func (b *builder) conversationKey() string {
	e := &b.Event
	if e.Type == channel.TypeRevocation {
		return ""
	}
	if _, err := uuid.Parse(e.Thread.ConversationKey); err == nil {
		return e.Thread.ConversationKey
	}
	if group := b.group(); group != "" {
		return group
	}
	if contact := b.contact(); contact.ID != "" {
		if e.Thread.Root != "" {
			return channel.ThreadKey(contact.ID, b.Connection, e.Thread.Root)
		}
		return channel.DirectKey(contact.ID, b.Connection)
	}
	if e.Target != "" {
		return channel.GroupKey(b.Connection, e.Target)
	}
	if author := b.author(); author.ID != "" {
		return channel.DirectKey(author.ID, b.Connection)
	}
	return channel.GroupKey(b.Connection, e.Key)
}

// content seals what was written, under the owner's key.
func (b *builder) content(event *pb.ChannelEvent) error {
	c := b.Event.Content
	if c == nil {
		return nil
	}
	content := &pb.Content{
		Text: c.Text, Html: c.HTML, Subject: c.Subject, Payload: c.Payload, MailId: c.MailID, References: c.References, FullText: c.FullText,
	}
	for _, a := range c.Attachments {
		id := channel.AttachmentID(event.GetMessageId(), a.Ref)
		event.Attachments = append(event.Attachments, &pb.AttachmentRef{Id: id, Kind: a.Kind, ContentType: a.ContentType, Size: a.Size})
		content.Attachments = append(content.Attachments, &pb.Attachment{Id: id, Name: a.Name, Url: a.URL, ExternalId: a.Ref})
	}
	content.Mentions = b.mentions(c)
	return b.add(event, b.owner(), pb.Category_CATEGORY_CONTENT, seal.OriginContent(event.GetMessageId(), event.GetOrderUs()), content)
}

// maxMentions of one message are kept; whoever else it names stays as the text has them.
const maxMentions = 100

// mentions keep the identities of who is mentioned. Nobody is looked up: what is sealed is a function of
// the event, whoever was known when it came.
func (b *builder) mentions(c *channel.Content) (mentions []*pb.Mention) {
	for _, m := range c.Mentions {
		within := m.Start >= 0 && m.Length > 0 && m.Start <= len(c.Text) && m.Length <= len(c.Text)-m.Start
		if within && valid(b.identity(m.Identity)) && len(mentions) < maxMentions {
			mentions = append(mentions, &pb.Mention{Start: int32(m.Start), Length: int32(m.Length),
				IdentityKind: m.Identity.Kind, IdentityValue: m.Identity.Value})
		}
	}
	return mentions
}

// reaction is its author's, so that it goes with them.
func (b *builder) reaction(event *pb.ChannelEvent) error {
	if b.Event.Type != channel.TypeReaction {
		return nil
	}
	author := b.subjects[0]
	key := seal.ReactionKey(author, event.GetMessageId(), b.Event.Emoji)
	event.Reaction = &pb.Reaction{ReactionKey: key, Removed: b.Event.Removed}
	return b.add(event, author, pb.Category_CATEGORY_CONTENT, seal.OriginReaction(key, event.GetOrderUs()), &pb.Content{Emoji: b.Event.Emoji})
}

// profiles tell how each person is named at the provider; the event's profile is the author's.
func (b *builder) profiles(event *pb.ChannelEvent) error {
	e := &b.Event
	if e.Type == channel.TypeReceipt || e.Type == channel.TypeDeletion {
		return nil
	}
	sealed := map[string]bool{}
	profile := e.Profile
	for _, of := range []struct {
		who     *channel.Identity
		subject seal.Subject
	}{{e.Author, b.author()}, {e.Contact, b.contact()}} {
		if of.who == nil || of.subject.ID == "" || sealed[of.subject.ID] {
			continue
		}
		sealed[of.subject.ID] = true
		part := &pb.Profile{IdentityKind: of.who.Kind, IdentityValue: of.who.Value}
		if profile != nil {
			part.Name, part.AvatarUrl, part.Email, part.Phone = profile.Name, profile.AvatarURL, profile.Email, profile.Phone
			part.Handle, part.Locale, part.TimeZone = profile.Handle, profile.Locale, profile.TimeZone
			profile = nil
		}
		if err := b.add(event, of.subject, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(of.subject.ID), part); err != nil {
			return err
		}
	}
	return nil
}

// commerce is its author's, as what they bought is.
func (b *builder) commerce(event *pb.ChannelEvent) error {
	c := b.Event.Commerce
	if c == nil || b.Event.Type != channel.TypeCommerce {
		return nil
	}
	event.Commerce = &pb.CommerceRef{Kind: c.Kind, Id: c.ID, Parent: c.Parent, Deleted: c.Deleted}
	origin := seal.OriginCommerce(b.Connection, c.Kind, c.ID, event.GetOrderUs())
	return b.add(event, b.subjects[0], pb.Category_CATEGORY_COMMERCE, origin, commerce(c))
}

func (b *builder) technical(event *pb.ChannelEvent) error {
	if len(b.Event.Technical) == 0 || len(b.subjects) == 0 || b.subjects[0].ID == "" {
		return nil
	}
	part := &pb.Technical{Ip: b.Event.Technical["ip"], UserAgent: b.Event.Technical["user_agent"], Attributes: map[string]string{}}
	for k, v := range b.Event.Technical {
		if k != "ip" && k != "user_agent" {
			part.Attributes[k] = v
		}
	}
	return b.add(event, b.subjects[0], pb.Category_CATEGORY_TECHNICAL, seal.OriginTechnical(event.GetId()), part)
}

func (b *builder) add(event *pb.ChannelEvent, s seal.Subject, category pb.Category, origin seal.Origin, m proto.Message) error {
	var err error
	if b.plain, err = (proto.MarshalOptions{}).MarshalAppend(b.plain[:0], m); err != nil {
		return err
	}
	if b.sealer == nil || b.sealer.KeyID != s.KeyID {
		if b.sealer, err = seal.NewSealer(s); err != nil {
			return err
		}
	}
	part, err := b.sealer.Seal(category, origin, b.plain)
	if err != nil {
		return err
	}
	event.Parts = append(event.Parts, part)
	return nil
}
