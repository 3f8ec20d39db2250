package ingress

import (
	"strings"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
)

// item is one event of one connection on its way in; as JSON, what a spool entry seals.
type item struct {
	Workspace, Connection string
	Event                 channel.Event
	ReceivedAt            time.Time
	// SignedAt is the time that the provider signed; zero where it signs none.
	SignedAt time.Time
	// Trace that the request began.
	Trace []bus.Header
	// Made is a ChannelEvent that needs no sealing (see Report); Event is then empty.
	Made []byte `json:",omitempty"`

	whose []seal.Identity // see persons
}

// legible makes what persons wrote valid UTF-8, so that it is the same whichever way it takes: JSON and
// protobuf take nothing else.
func legible(e channel.Event) channel.Event {
	fix := func(fields ...*string) {
		for _, f := range fields {
			*f = strings.ToValidUTF8(*f, "\uFFFD")
		}
	}
	fix(&e.Emoji)
	if e.Content != nil {
		c := *e.Content
		text := c.Text
		fix(&c.Text, &c.HTML, &c.Subject)
		if c.Text != text {
			c.Mentions = nil // their places have moved; the text names them too
		}
		c.Attachments = append([]channel.Attachment(nil), c.Attachments...)
		for i := range c.Attachments {
			a := &c.Attachments[i]
			fix(&a.Ref, &a.Kind, &a.Name, &a.ContentType, &a.URL)
		}
		e.Content = &c
	}
	if e.Profile != nil {
		p := *e.Profile
		fix(&p.Name, &p.AvatarURL, &p.Email, &p.Phone, &p.Handle, &p.Locale, &p.TimeZone)
		e.Profile = &p
	}
	if e.Technical != nil {
		t := make(map[string]string, len(e.Technical))
		for k, v := range e.Technical {
			fix(&k, &v)
			t[k] = v
		}
		e.Technical = t
	}
	return e
}
