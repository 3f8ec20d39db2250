package sms

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tributary.dev/libs/channel"
)

// longestText in characters that one call may carry.
const longestText = 1600

// Check refuses what no provider could do.
func (a *Adapter) Check(out *channel.Outgoing) error {
	switch {
	case a.provider(out.Connection.Settings) == nil:
		return reject("unknown_provider", "The connection names a provider that is not supported.")
	case out.Connection.Credentials["account_sid"] == "" || out.Connection.Credentials["auth_token"] == "":
		return &channel.Error{Class: channel.ClassReauthorise, Code: "no_credentials", Sentence: "The connection has no credentials: connect the number again."}
	case out.To == "":
		return reject("no_address", "The contact has no number.")
	case !canBeAnswered(out.To):
		return reject("alphanumeric_sender", "This sender is a name and not a number: it can't be answered.")
	case out.Attachment == nil && strings.TrimSpace(out.Text) == "":
		return reject("no_text", "The message is empty.")
	case out.Attachment != nil && out.Attachment.URL == "":
		return reject("no_public_url", "Files can be sent only when the mesh has a public address for the provider to fetch them from.")
	case utf8.RuneCountInString(out.Text) > longestText:
		return reject("too_long", "The text is longer than 1600 characters.")
	}
	return nil
}

// Pace is the sender's number's: one message a second, or what the connection's setting
// messages_per_second says its number may do.
func (a *Adapter) Pace(out *channel.Outgoing) channel.Pace {
	perSecond, err := strconv.ParseFloat(out.Connection.Settings["messages_per_second"], 64)
	if err != nil || !(perSecond >= 0.01 && perSecond <= 1000) {
		perSecond = 1
	}
	return channel.Pace{
		Key: out.Connection.ExternalID, Every: time.Duration(float64(time.Second) / perSecond), Burst: 1,
	}
}

// Send hands the message to the provider, with the address where it shall report what became of it.
func (a *Adapter) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	if err := a.Check(out); err != nil {
		return channel.Sent{}, err
	}
	sid, err := a.provider(out.Connection.Settings).send(ctx, out)
	if err != nil {
		return channel.Sent{}, err
	}
	return channel.Sent{ExternalID: sid}, nil
}

// sender is the number that answers an address: on WhatsApp the same number with its prefix.
func sender(number, to string) string {
	if strings.HasPrefix(to, whatsApp) && !strings.HasPrefix(number, whatsApp) {
		return whatsApp + number
	}
	return number
}

func reject(code, sentence string) *channel.Error {
	return &channel.Error{Class: channel.ClassReject, Code: code, Sentence: sentence}
}
