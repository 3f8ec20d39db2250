package sms

import (
	"context"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// whatsAppWindow is how long after a person's last message WhatsApp takes free replies; what is sent later must be a
// template (https://www.twilio.com/docs/api/errors/63016), which the mesh has none of.
const whatsAppWindow = 24 * time.Hour

// Check refuses what no provider could do, and then what the connection's own can't.
func (a *Adapter) Check(out *channel.Outgoing) error {
	p := a.provider(out.Connection.Settings)
	switch {
	case p == nil:
		return reject("unknown_provider", "The connection names a provider that is not supported.")
	case out.To == "":
		return reject("no_address", "The contact has no number.")
	case !canBeAnswered(out.To):
		return reject("alphanumeric_sender", "This sender is a name and not a number: it can't be answered.")
	case out.Attachment == nil && strings.TrimSpace(out.Text) == "":
		return reject("no_text", "The message is empty.")
	case out.Attachment != nil && out.Attachment.URL == "":
		return reject("no_public_url", "Files can be sent only when the mesh has a public address for the provider to fetch them from.")
	case strings.HasPrefix(out.To, whatsApp) && out.Now.Sub(out.LastInbound) >= whatsAppWindow:
		return &channel.Error{Class: channel.ClassWindowClosed, Code: "window_closed", Sentence: windowClosed}
	}
	return p.check(out)
}

const windowClosed = "WhatsApp allows free replies only within 24 hours of the person's last message."

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

func noCredentials() *channel.Error {
	return &channel.Error{
		Class: channel.ClassReauthorise, Code: "no_credentials",
		Sentence: "The connection has no credentials: connect the number again.",
	}
}
