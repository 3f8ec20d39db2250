package messenger

import (
	"context"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

const (
	// longestText in UTF-16 units. Meta says 2,000 characters and not which: counted so, none is too long either way.
	longestText = 2000
	// largestFile in bytes
	// (https://developers.facebook.com/documentation/business-messaging/messenger-platform/send-messages/saving-assets).
	largestFile = 25 << 20

	// freeFor is how long anybody may answer after the person last acted; agentFor how long a human agent may
	// (https://developers.facebook.com/documentation/business-messaging/messenger-platform/policy).
	freeFor  = 24 * time.Hour
	agentFor = 7 * 24 * time.Hour
)

// Check refuses what Meta would, or what would break its rules: nothing leaves when the window is closed.
func (a *Adapter) Check(out *channel.Outgoing) error {
	_, ok := recipient(out)
	switch {
	case out.Connection.Credentials["page_token"] == "":
		return &channel.Error{Class: channel.ClassReauthorise, Code: "no_page_token", Sentence: "The connection has no token: connect the Page again."}
	case !isID(loose(out.Connection.ExternalID)):
		return reject("no_page", "The connection names no Page.")
	case !ok:
		return reject("no_address", "The contact is not known to this Page.")
	case out.Attachment == nil && strings.TrimSpace(out.Text) == "":
		return reject("no_text", "The message is empty.")
	case out.Attachment != nil && out.Text != "":
		return reject("text_and_file", "Messenger takes a text or a file in one message, and not both.")
	case channel.Length(out.Text, channel.UnitUTF16) > longestText:
		return reject("too_long", "The text is longer than 2000 characters.")
	case out.Attachment != nil && out.Attachment.Size <= 0:
		return reject("empty_file", "The file is empty.")
	case out.Attachment != nil && out.Attachment.Size > largestFile:
		return reject("file_too_large", "The file is larger than 25 MB.")
	}
	if _, open := window(out); !open {
		return &channel.Error{Class: channel.ClassWindowClosed, Code: "window_closed", Sentence: closedSentence(out.ByMember)}
	}
	return nil
}

// window says under which tag a message may leave now, if it may. Within a day of the person's last act anybody may
// answer, without one; within seven days a human agent may, and nobody else: the tag says that a person wrote it.
func window(out *channel.Outgoing) (tag string, open bool) {
	since := out.Now.Sub(out.LastInbound)
	switch {
	case out.LastInbound.IsZero():
		return "", false
	case since < freeFor:
		return "", true
	case since < agentFor && out.ByMember:
		return "HUMAN_AGENT", true
	}
	return "", false
}

func closedSentence(byMember bool) string {
	if byMember {
		return "Messenger allows answers only within 7 days of what the person last wrote."
	}
	return "Messenger allows automatic answers only within 24 hours of what the person last wrote."
}

// Pace is the Page's: 40 messages a second, beyond which its inbox at Meta stands still, and 10 with audio or video
// (https://developers.facebook.com/docs/messenger-platform/overview/rate-limiting).
func (a *Adapter) Pace(out *channel.Outgoing) channel.Pace {
	if out.Attachment != nil {
		if kind := assetType(out.Attachment.ContentType); kind == "audio" || kind == "video" {
			return channel.Pace{Key: out.Connection.ExternalID + "/media", Every: 100 * time.Millisecond, Burst: 10}
		}
	}
	return channel.Pace{Key: out.Connection.ExternalID, Every: 25 * time.Millisecond, Burst: 40}
}

// Send hands the message to Meta. It carries, as metadata, which part of which message it is, so that its echo can be
// joined even when the answer to this call never came.
func (a *Adapter) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	if err := a.Check(out); err != nil {
		return channel.Sent{}, err
	}
	psid, _ := recipient(out)
	m := outbound{
		Recipient: map[string]string{"id": psid}, MessagingType: "RESPONSE",
		Message: outboundMessage{
			Text:     out.Text,
			Metadata: (&part{out.MessageID, out.Part, out.Attempt, out.ConversationKey}).String(),
		},
	}
	if tag, _ := window(out); tag != "" {
		m.MessagingType, m.Tag = "MESSAGE_TAG", tag
	}
	if isMID(out.ReplyTo) && !isMade(out.ReplyTo) {
		m.ReplyTo = map[string]string{"mid": out.ReplyTo}
	}
	var answer struct {
		MessageID string `json:"message_id"`
	}
	if err := a.post(ctx, out, m, &answer); err != nil {
		return channel.Sent{}, err
	}
	if !isMID(answer.MessageID) { // a 200 that is not Meta's: nobody can say what happened
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return channel.Sent{ExternalID: answer.MessageID}, nil
}

// outbound is a call of the Send API
// (https://developers.facebook.com/docs/messenger-platform/reference/send-api).
type outbound struct {
	Recipient     map[string]string `json:"recipient"`
	MessagingType string            `json:"messaging_type"`
	Tag           string            `json:"tag,omitempty"`
	Message       outboundMessage   `json:"message"`
	ReplyTo       map[string]string `json:"reply_to,omitempty"`
}

type outboundMessage struct {
	Text       string              `json:"text,omitempty"`
	Attachment *outboundAttachment `json:"attachment,omitempty"`
	Metadata   string              `json:"metadata,omitempty"`
}

type outboundAttachment struct {
	Type    string `json:"type"`
	Payload struct {
		URL string `json:"url,omitempty"`
	} `json:"payload"`
}

// post sends a text, or a file by its address, as JSON; where the mesh has no address that Meta could fetch from, the
// file itself, in a form.
func (a *Adapter) post(ctx context.Context, out *channel.Outgoing, m outbound, answer any) error {
	target := "/" + out.Connection.ExternalID + "/messages"
	file := out.Attachment
	if file == nil {
		return a.call(ctx, out.Connection, target, jsonBody(m), answer)
	}
	m.Message.Attachment = &outboundAttachment{Type: assetType(file.ContentType)}
	if strings.HasPrefix(file.URL, "https://") { // Meta fetches from no other
		m.Message.Attachment.Payload.URL = file.URL
		return a.call(ctx, out.Connection, target, jsonBody(m), answer)
	}
	content, err := file.Open(ctx)
	if err != nil {
		return &channel.Error{Class: channel.ClassRetry, Code: "file_unreadable", NotTaken: true}
	}
	defer content.Close()
	return a.call(ctx, out.Connection, target, formBody(m, file, content), answer)
}

// assetType of a file at Meta.
func assetType(contentType string) string {
	kind, _, _ := strings.Cut(contentType, "/")
	switch kind {
	case "image", "audio", "video":
		return kind
	}
	return "file"
}

// recipient is the PSID of whom a message goes to, if it is this Page's.
func recipient(out *channel.Outgoing) (psid string, ok bool) {
	page, psid, found := strings.Cut(out.To, ":")
	return psid, found && page == out.Connection.ExternalID && isID(loose(psid))
}

func reject(code, sentence string) *channel.Error {
	return &channel.Error{Class: channel.ClassReject, Code: code, Sentence: sentence}
}
