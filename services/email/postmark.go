package email

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"tributary.dev/libs/channel"
)

// inbound is Postmark's inbound webhook (https://postmarkapp.com/developer/webhooks/inbound-webhook); record is what
// its other webhooks have in common (bounce, delivery, spam complaint, subscription change).
type (
	postmarkBody struct {
		RecordType string
		postmarkInbound
		postmarkRecordFields
	}
	postmarkInbound struct {
		From                    string
		FromFull                postmarkAddress
		ToFull, CcFull, BccFull []postmarkAddress
		OriginalRecipient       string
		Subject, Date           string
		TextBody, HtmlBody      string
		RawEmail                string
		Headers                 []postmarkHeader
		Attachments             []postmarkFile
	}
	postmarkAddress struct{ Email, Name string }
	postmarkHeader  struct{ Name, Value string }
	postmarkFile    struct {
		Name, ContentType, ContentID string
		Content                      string
	}
	// postmarkMetadata of a mail of ours; what else stands there is others', and of any kind.
	postmarkMetadata struct {
		Message      string `json:"m"`
		Part         string `json:"p"`
		Attempt      string `json:"a"`
		Conversation string `json:"k"`
	}
	postmarkRecordFields struct {
		ID                json.RawMessage
		MessageID         string
		Type              string
		Email             string
		Recipient         string
		SuppressSending   *bool
		Origin            string
		SuppressionReason string
		ChangedAt         string
		Metadata          postmarkMetadata
	}
)

var errNotPostmark = errors.New("email: the body is no record of Postmark's")

func postmarkRecord(r *channel.Request, k keyed) (channel.Result, error) {
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var body postmarkBody
	if contentType != "application/json" || channel.DecodeObject(r.Body, &body) != nil {
		return channel.Result{}, errNotPostmark
	}
	switch body.RecordType {
	case "", "Inbound":
		if body.RecordType == "" && body.From == "" && body.FromFull.Email == "" && len(body.Headers) == 0 && body.RawEmail == "" {
			return channel.Result{}, errNotPostmark
		}
		mailbox := r.Account
		if mailbox == "" {
			mailbox = untagged(first(addressesOf(addresses(body.OriginalRecipient))))
		}
		return body.letter().result(k, mailbox, r.Settings), nil
	case "Bounce", "Delivery", "SpamComplaint", "SubscriptionChange":
		return body.events(k), nil
	}
	return channel.Result{Unknown: []string{postmarkWord(body.RecordType)}}, nil
}

// postmarkWord is a record's type where it is one of Postmark's.
func postmarkWord(recordType string) string {
	switch recordType {
	case "Open", "Click", "SMTPApiError":
		return "postmark." + strings.ToLower(recordType)
	}
	return "postmark.other"
}

// letter of an inbound webhook. Where the stream is set to include the raw mail, that is read: it is the same mail then,
// to the letter, as by any other way.
func (b *postmarkInbound) letter() *letter {
	l := &letter{header: textproto.MIMEHeader{}}
	if raw, err := readMail([]byte(b.RawEmail)); b.RawEmail != "" && err == nil {
		l = raw
	} else {
		for _, h := range b.Headers {
			if fieldName(h.Name) {
				l.header.Add(h.Name, strings.TrimSpace(h.Value))
			}
		}
		for name, value := range map[string]string{"Subject": b.Subject, "Date": b.Date, "From": b.From} {
			if l.header.Get(name) == "" {
				l.header.Set(name, value)
			}
		}
		l.envelope()
		if from, ok := address(b.FromFull.Email); ok {
			l.from, l.fromName = from, cut(strings.TrimSpace(clean(b.FromFull.Name)), maxName)
		}
		l.text, l.html = clean(strings.ReplaceAll(b.TextBody, "\r\n", "\n")), clean(b.HtmlBody)
		for _, f := range b.Attachments {
			l.files = append(l.files, file{name: clean(f.Name), contentType: mediaType(f.ContentType), contentID: strings.Trim(clean(f.ContentID), "<> "), data: f.data()})
		}
	}
	for _, list := range [][]postmarkAddress{b.ToFull, b.CcFull, b.BccFull, {{Email: b.OriginalRecipient}}} {
		for _, to := range list {
			if to, ok := address(to.Email); ok {
				l.to = append(l.to, to)
			}
		}
	}
	return l
}

// data of a file; what is no base64 is kept as it is.
func (f postmarkFile) data() []byte {
	if data, err := base64.StdEncoding.DecodeString(f.Content); err == nil {
		return data
	}
	return []byte(f.Content)
}

// mediaType without parameters; application/octet-stream for what is none.
func mediaType(contentType string) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil && strings.Contains(t, "/") {
		return clean(t)
	}
	return "application/octet-stream"
}

// events of what became of a mail that went out. Its metadata, which the webhook's secret vouches for, says which.
func (b *postmarkBody) events(k keyed) (result channel.Result) {
	message, err := uuid.Parse(b.Metadata.Message)
	part, okPart := number(b.Metadata.Part)
	attempt, okAttempt := number(b.Metadata.Attempt)
	ours := err == nil && okPart && okAttempt
	source := "postmark." + strings.ToLower(b.RecordType)
	event := channel.Event{SourceType: source, Key: k.id(b.RecordType, b.MessageID, string(b.ID), b.Type, b.ChangedAt, b.who())}
	if key, err := uuid.Parse(b.Metadata.Conversation); err == nil {
		event.Thread.ConversationKey = key.String()
	}
	receipt := channel.Receipt{MessageID: message.String(), Part: part, Attempt: attempt}
	switch {
	case b.RecordType == "SpamComplaint" || b.RecordType == "Bounce" && (b.Type == "SpamComplaint" || b.Type == "Unsubscribe") || b.RecordType == "SubscriptionChange" && b.Origin == "Recipient" && b.suppresses("SpamComplaint", "ManualSuppression"):
		who, ok := address(b.who())
		if !ok {
			result.Faults = append(result.Faults, "postmark.recipient")
			return result
		}
		event.Type, event.Author, event.Contact = channel.TypeConsent, identity(who), identity(who)
		event.Consent = &channel.Consent{Action: "opt_out", Source: "provider"}
	case b.RecordType == "Delivery" && ours:
		receipt.Status = channel.StatusDelivered
		event.Type, event.Receipt = channel.TypeReceipt, &receipt
	case b.RecordType == "Bounce" && ours && postmarkBounces[b.Type] != "":
		receipt.Status, receipt.Class, receipt.Code = channel.StatusFailed, postmarkBounces[b.Type], strings.ToLower(b.Type)
		event.Type, event.Receipt = channel.TypeReceipt, &receipt
	default: // a mail that others sent through the same server, or what says nothing of its fate
		result.Unknown = append(result.Unknown, source+".other")
		return result
	}
	result.Events = append(result.Events, event)
	return result
}

func (b *postmarkBody) who() string {
	if b.Email != "" {
		return b.Email
	}
	return b.Recipient
}

func (b *postmarkBody) suppresses(reasons ...string) bool {
	for _, reason := range reasons {
		if b.SuppressSending != nil && *b.SuppressSending && b.SuppressionReason == reason {
			return true
		}
	}
	return false
}

// postmarkBounces that end a mail (https://postmarkapp.com/developer/api/bounce-api#bounce-types). What Postmark goes on
// trying (Transient), automatic answers and challenges are none.
var postmarkBounces = map[string]channel.Class{
	"HardBounce": channel.ClassReject, "BadEmailAddress": channel.ClassReject, "Blocked": channel.ClassReject, "SpamNotification": channel.ClassReject,
	"ManuallyDeactivated": channel.ClassReject, "InboundError": channel.ClassReject, "DMARCPolicy": channel.ClassReject, "VirusNotification": channel.ClassReject,
	"Undeliverable": channel.ClassReject, "SoftBounce": channel.ClassRetry, "DnsError": channel.ClassRetry, "SMTPApiError": channel.ClassRetry,
	"TemplateRenderingFailed": channel.ClassReject, "Unknown": channel.ClassReject, "AddressChange": channel.ClassReject,
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// number64 reads seconds since 1970.
func number64(s string) (time.Time, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0).UTC(), err == nil && n > 0 && n < 1<<33
}
