package sms

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"tributary.dev/libs/channel"
)

// provider is who carries the messages of a connection; its setting "provider" names it.
type provider interface {
	// signed tells whether the request was signed with the secret. It compares in constant time.
	signed(r *channel.Request, secret string) bool
	// read gives what a request says in the provider's own terms, as far as they differ. An error means
	// that the request is not what its content type promises.
	read(r *channel.Request) (webhook, error)
	// check refuses what the provider could not do with the connection's credentials and within its limits.
	check(out *channel.Outgoing) error
	// send makes the call, with errors mapped.
	send(ctx context.Context, out *channel.Outgoing) (sid string, err error)
	// mediaHeader is what the provider wants to see before it gives an attachment; ok is false for
	// addresses that are none of its own.
	mediaHeader(conn *channel.Connection, address *url.URL) (h http.Header, ok bool)
}

// webhook is one of an incoming message, a reaction and a status; or none, and kind says what else.
type webhook struct {
	kind     string
	message  *incoming
	reaction *reaction
	status   *status
	// reply is the answer that the provider expects.
	reply channel.Reply
	// signedAt is the time the provider signed, if it does.
	signedAt time.Time
}

// incoming message as providers tell it. Strings are valid UTF-8.
type incoming struct {
	sid, from, body, replyTo string
	// payload of the button or list entry that was chosen.
	payload string
	//bound:exempt those of one message
	media []media
	// optOut is the provider's own reading of a consent word: STOP, START, HELP or empty.
	optOut string
	// profileName is what a WhatsApp sender goes by.
	profileName string
	//bound:exempt a few words on one message
	technical map[string]string
}

// media of a message; kind is that of channel.Attachment.
type media struct{ ref, kind, name, url, contentType string }

// reaction to a message, which is the target.
type reaction struct {
	sid, from, target, emoji string
	removed                  bool
}

// status of an outbound message. word is the provider's own.
type status struct {
	sid, to, word string
	status        channel.Status
	class         channel.Class
	code          string
	// messageID, part, attempt and conversation are ours, where the signed part of the request repeats them.
	messageID, conversation string
	part, attempt           int32
}

// provider of a connection; nil where its setting names none that is known.
func (a *Adapter) provider(settings map[string]string) provider {
	switch settings["provider"] {
	case "", "twilio":
		return a.twilio
	case "vonage":
		return a.vonage
	}
	return nil
}
