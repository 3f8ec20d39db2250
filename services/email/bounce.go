package email

import (
	"bytes"
	"net/textproto"
	"regexp"
	"strings"

	"tributary.dev/libs/channel"
)

// report is a multipart/report (RFC 6522): what became of a mail (delivery-status, RFC 3464), or that somebody
// complained of one (feedback-report, RFC 5965).
type report struct {
	delivery, feedback bool
	// action and status of the recipient that fared worst; feedbackType and recipient of a complaint.
	action, status          string
	feedbackType, recipient string
	// original is the header of the mail that it is about, as far as the report has it.
	original textproto.MIMEHeader
}

// reportOf reads a report; nil where the mail is none.
func reportOf(root *part) *report {
	if root.contentType != "multipart/report" {
		return nil
	}
	r := &report{}
	for _, p := range root.children {
		switch p.contentType {
		case "message/delivery-status", "message/global-delivery-status":
			r.delivery = true
			r.deliveryStatus(p.content)
		case "message/feedback-report":
			r.feedback = true
			fields, _ := headerOf(p.content)
			r.feedbackType = strings.ToLower(fields.Get("Feedback-Type"))
			r.recipient = typed(fields.Get("Original-Rcpt-To"))
		case "message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers":
			r.original, _ = headerOf(p.content)
		}
	}
	return r
}

// rank of what became of a recipient: the worst is told.
var actions = map[string]int{"delivered": 1, "relayed": 1, "expanded": 1, "delayed": 2, "failed": 3}

// deliveryStatus reads the recipients' blocks. A status without an action is one of those who forget it.
func (r *report) deliveryStatus(content []byte) {
	blocks := bytes.Split(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	for _, block := range blocks {
		fields, ok := headerOf(block)
		if !ok {
			continue
		}
		action, status := firstWord(fields.Get("Action")), firstWord(fields.Get("Status"))
		if action == "" && strings.HasPrefix(status, "5") {
			action = "failed"
		}
		if actions[action] > actions[r.action] {
			r.action, r.status = action, ""
			if enhanced.MatchString(status) {
				r.status = status
			}
		}
	}
}

// enhanced status code (RFC 3463).
var enhanced = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}$`)

func firstWord(text string) string {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(text)), " ")
	return word
}

// typed is the address of a "type; address" field; empty where it is none.
func typed(value string) string {
	if _, after, ok := strings.Cut(value, ";"); ok {
		value = after
	}
	address, _ := address(strings.Trim(strings.TrimSpace(value), "<>"))
	return address
}

// reported gives the events of a report about a mail of ours; ok is false where it is about none, or says nothing that
// is an event: it then is a mail like others, from a machine.
//
// Anybody can write a report. What it is about is proved by the token in the returned header, which only those
// know who had the mail; without it a report can fail a mail that it names by its id, which nobody guesses, and can't
// withdraw a consent.
func (l *letter) reported(k keyed, key string) (events []channel.Event, ok bool) {
	r := l.report
	if r == nil || r.original == nil {
		return nil, false
	}
	ids := messageIDs(r.original.Get("Message-Id"))
	if len(ids) == 0 {
		return nil, false
	}
	mail, isOurs := k.own(ids[0])
	if !isOurs {
		return nil, false
	}
	proved := mail.conversation
	for _, a := range addressesOf(addresses(r.original.Get("Reply-To"))) {
		if conversation, ok := k.tagged(a); ok && proved == "" {
			proved = conversation
		}
	}
	switch {
	case r.delivery:
		return l.receipt(k, key, ids[0], mail, proved)
	case r.feedback && r.feedbackType != "not-spam" && proved != "":
		return r.complaint(key, proved)
	}
	return nil, false
}

func (l *letter) receipt(k keyed, key, id string, mail ours, proved string) ([]channel.Event, bool) {
	receipt := &channel.Receipt{Code: l.report.status}
	switch l.report.action {
	case "failed":
		receipt.Status, receipt.Class = channel.StatusFailed, bounceClass(l.report.status)
		if receipt.Code == "" {
			receipt.Code = "bounced"
		}
	case "delivered":
		receipt.Status, receipt.Code = channel.StatusDelivered, ""
	case "delayed", "relayed", "expanded": // nothing is known yet
		return nil, true
	default:
		return nil, false
	}
	event := channel.Event{
		Type: channel.TypeReceipt, SourceType: "dsn." + l.report.action, Key: key, Target: k.mail(id), Receipt: receipt,
		Thread: channel.Thread{ConversationKey: proved},
	}
	if proved != "" {
		receipt.MessageID, receipt.Part, receipt.Attempt = mail.messageID, mail.part, mail.attempt
	}
	return []channel.Event{event}, true
}

// bounceClass of an enhanced status code: a full mailbox or a network's trouble may be over by the next attempt.
func bounceClass(status string) channel.Class {
	if strings.HasPrefix(status, "4.") || status == "5.2.2" {
		return channel.ClassRetry
	}
	return channel.ClassReject
}

// complaint withdraws the consent of who got the mail, for this mailbox.
func (r *report) complaint(key, conversation string) ([]channel.Event, bool) {
	who := r.recipient
	if who == "" {
		if to := addressesOf(addresses(r.original.Get("To"))); len(to) > 0 {
			who = to[0]
		}
	}
	if who == "" {
		return nil, false
	}
	return []channel.Event{{
		Type: channel.TypeConsent, SourceType: "arf." + complaintWord(r.feedbackType), Key: key, Author: identity(who), Contact: identity(who),
		Thread: channel.Thread{ConversationKey: conversation}, Consent: &channel.Consent{Action: "opt_out", Source: "provider"},
	}}, true
}

// complaintWord of the register of feedback types (RFC 5965, 7.3).
func complaintWord(feedbackType string) string {
	switch feedbackType {
	case "abuse", "fraud", "virus", "opt-out", "opt-out-list":
		return feedbackType
	}
	return "other"
}
