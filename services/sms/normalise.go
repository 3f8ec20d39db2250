package sms

import (
	"errors"
	"maps"
	"math"
	"strconv"
	"strings"

	"tributary.dev/libs/channel"
)

// Normalise reads one incoming message, reaction or status callback.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	p := a.provider(r.Settings)
	if p == nil {
		return channel.Result{}, errors.New("sms: the connection's provider is not known")
	}
	hook, err := p.read(r)
	if err != nil {
		return channel.Result{}, err
	}
	result := channel.Result{Reply: hook.reply, SignedAt: hook.signedAt}
	switch {
	case hook.message != nil:
		received(&result, hook.message)
	case hook.reaction != nil:
		reacted(&result, hook.reaction)
	case hook.status != nil:
		reported(&result, hook.status)
	}
	if hook.kind != "" {
		result.Unknown = append(result.Unknown, hook.kind)
	}
	return result, nil
}

// received gives the message, and beside it what it means for consent: a word that withdraws consent is
// something the person said all the same.
func received(result *channel.Result, m *incoming) {
	who, ok := identity(m.from)
	switch {
	case !ok:
		result.Faults = append(result.Faults, "message.from")
		return
	case !isSID(m.sid):
		result.Faults = append(result.Faults, "message.sid")
		return
	}
	content := &channel.Content{Text: m.body, Payload: m.payload}
	for _, item := range m.media {
		content.Attachments = append(content.Attachments, item.normalised())
	}
	technical := maps.Clone(m.technical)
	if technical == nil {
		technical = map[string]string{}
	}
	if encoding, segments := Segments(m.body); segments > 0 && who.Kind == "phone" { // WhatsApp cuts nothing
		technical["encoding"], technical["segments"] = encoding, strconv.Itoa(segments)
	}
	event := channel.Event{
		Type: channel.TypeMessage, SourceType: "message", Key: m.sid, ExternalID: m.sid, ReplyTo: m.replyTo,
		Author: &who, Contact: &who, Content: content, Technical: technical,
	}
	if m.profileName != "" {
		event.Profile = &channel.Profile{Name: m.profileName}
	}
	result.Events = append(result.Events, event)
	if consent := m.consent(); consent != nil {
		result.Events = append(result.Events, channel.Event{
			Type: channel.TypeConsent, SourceType: "message", Key: m.sid,
			Author: &who, Contact: &who, Consent: consent,
		})
	}
}

// reacted gives a reaction to a message, which only WhatsApp has.
func reacted(result *channel.Result, m *reaction) {
	who, ok := identity(m.from)
	switch {
	case !ok:
		result.Faults = append(result.Faults, "reaction.from")
		return
	case !isSID(m.sid) || !isSID(m.target):
		result.Faults = append(result.Faults, "reaction.sid")
		return
	}
	result.Events = append(result.Events, channel.Event{
		Type: channel.TypeReaction, SourceType: "reaction", Key: m.sid, Target: m.target,
		Author: &who, Contact: &who, Emoji: m.emoji, Removed: m.removed,
	})
}

// reported gives the receipt of a status callback. What was signed may say which part of which message it is
// about; without it the provider's id does.
func reported(result *channel.Result, s *status) {
	if !isSID(s.sid) {
		result.Faults = append(result.Faults, "status")
		return
	}
	event := channel.Event{
		Type: channel.TypeReceipt, SourceType: "status." + s.word, Key: s.sid + ":" + s.word, Target: s.sid,
		Receipt: &channel.Receipt{
			MessageID: s.messageID, Part: s.part, Attempt: s.attempt,
			Status: s.status, Class: s.class, Code: s.code, ExternalID: s.sid,
		},
		Thread: channel.Thread{ConversationKey: s.conversation},
	}
	person, known := identity(s.to)
	if s.conversation == "" && known {
		event.Contact = &person
	}
	result.Events = append(result.Events, event)
	if s.class == channel.ClassOptedOut && known {
		result.Events = append(result.Events, channel.Event{
			Type: channel.TypeConsent, SourceType: "status." + s.word, Key: s.sid,
			Author: &person, Contact: &person,
			Consent: &channel.Consent{Action: "opt_out", Source: "provider", WorkspaceWide: true},
		})
	}
}

func (m media) normalised() channel.Attachment {
	return channel.Attachment{Ref: m.ref, Kind: m.kind, Name: m.name, ContentType: m.contentType, URL: m.url}
}

// place that was shared, as text.
func place(name, latitude, longitude string) string {
	return strings.TrimSpace(name + " (" + latitude + ", " + longitude + ")")
}

// clean text is valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
}

func number(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0
	}
	return int32(n)
}

// isSID tells a provider's id of a message: it goes into keys and addresses, so nothing else may pass
// for one.
func isSID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
