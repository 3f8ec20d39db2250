package sms

import (
	"context"
	"net/http"
	"net/url"

	"tributary.dev/libs/channel"
)

// provider is who carries the messages of a connection; its setting "provider" names it.
type provider interface {
	// signed tells whether the request was signed with the secret. It compares in constant time.
	signed(r *channel.Request, secret string) bool
	// read gives what a request says in the provider's own terms, as far as they differ. An error means
	// that the request is not what its content type promises.
	read(r *channel.Request) (webhook, error)
	// reply is the answer that the provider expects; a text in it goes to the sender.
	reply(text string) channel.Reply
	// send makes the call, with errors mapped.
	send(ctx context.Context, out *channel.Outgoing) (sid string, err error)
	// mediaHeader is what the provider wants to see before it gives an attachment; ok is false for
	// addresses that are none of its own.
	mediaHeader(conn *channel.Connection, address *url.URL) (h http.Header, ok bool)
}

// webhook is one of an incoming message and a status; or neither, and kind says what else.
type webhook struct {
	kind    string
	message *incoming
	status  *status
}

// incoming message as providers tell it. Strings are valid UTF-8.
type incoming struct {
	sid, from, body, replyTo string
	media                    []media
	// optOut is the provider's own reading of a consent word: STOP, START, HELP or empty.
	optOut string
	// profileName is what a WhatsApp sender goes by.
	profileName string
	technical   map[string]string
}

type media struct{ ref, url, contentType string }

// status of an outbound message. word is the provider's own.
type status struct {
	sid, to, word string
	status        channel.Status
	class         channel.Class
	code          string
}

// provider of a connection; nil where its setting names none that is known.
func (a *Adapter) provider(settings map[string]string) provider {
	switch settings["provider"] {
	case "", "twilio":
		return a.twilio
	}
	return nil
}
