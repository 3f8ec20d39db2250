package sms

import (
	"errors"
	"maps"
	"math"
	"net/url"
	"strconv"

	"github.com/google/uuid"
	"tributary.dev/libs/channel"
)

// Normalise reads one incoming message or status callback.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	p := a.provider(r.Settings)
	if p == nil {
		return channel.Result{}, errors.New("sms: the connection's provider is not known")
	}
	hook, err := p.read(r)
	if err != nil {
		return channel.Result{}, err
	}
	result := channel.Result{Reply: p.reply("")}
	switch {
	case hook.message != nil:
		received(&result, hook.message)
		if hook.message.asksHelp() {
			result.Reply = p.reply(r.Settings["help_reply"])
		}
	case hook.status != nil:
		reported(&result, hook.status, r.URL)
	default:
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
	content := &channel.Content{Text: m.body}
	for _, item := range m.media {
		content.Attachments = append(content.Attachments, item.normalised())
	}
	technical := maps.Clone(m.technical)
	if technical == nil {
		technical = map[string]string{}
	}
	if encoding, segments := Segments(m.body); segments > 0 {
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

// reported gives the receipt of a status callback. The callback's URL, which is ours and signed, says which
// part of which message it is about; without it the provider's id does.
func reported(result *channel.Result, s *status, callback *url.URL) {
	if !isSID(s.sid) {
		result.Faults = append(result.Faults, "status")
		return
	}
	receipt := &channel.Receipt{Status: s.status, Class: s.class, Code: s.code, ExternalID: s.sid}
	event := channel.Event{
		Type: channel.TypeReceipt, SourceType: "status." + s.word, Key: s.sid + ":" + s.word, Target: s.sid, Receipt: receipt,
	}
	person, known := identity(s.to)
	query := callback.Query()
	if id, err := uuid.Parse(query.Get("m")); err == nil {
		receipt.MessageID, receipt.Part, receipt.Attempt = id.String(), number(query.Get("p")), number(query.Get("a"))
	}
	if key, err := uuid.Parse(query.Get("k")); err == nil {
		event.Thread.ConversationKey = key.String()
	} else if known {
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
	return channel.Attachment{Ref: m.ref, Kind: attachmentKind(m.contentType), ContentType: m.contentType, URL: m.url}
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
