package ingress

import (
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

// legible makes what persons wrote UTF-8 without NUL, so that it is the same on every channel and whichever way it
// takes: JSON and protobuf take nothing but UTF-8.
func legible(e channel.Event) channel.Event {
	fix := func(fields ...*string) {
		for _, f := range fields {
			*f = channel.Legible(*f)
		}
	}
	all := func(texts []string) []string {
		texts = append([]string(nil), texts...)
		for i := range texts {
			fix(&texts[i])
		}
		return texts
	}
	fix(&e.Emoji)
	if e.Content != nil {
		c := *e.Content
		text := c.Text
		fix(&c.Text, &c.HTML, &c.Subject, &c.Payload, &c.MailID, &c.FullText)
		c.References = all(c.References)
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
	if e.Commerce != nil {
		c := *e.Commerce
		fix(&c.Number, &c.Status, &c.FinancialStatus, &c.FulfilmentStatus, &c.Currency, &c.Total, &c.URL, &c.CustomerID,
			&c.Email, &c.Phone, &c.Note, &c.TrackingNumber, &c.TrackingURL, &c.APIVersion)
		c.Tags = all(c.Tags)
		c.Lines = append([]channel.CommerceLine(nil), c.Lines...)
		for i := range c.Lines {
			l := &c.Lines[i]
			fix(&l.ID, &l.Title, &l.SKU, &l.Price)
		}
		e.Commerce = &c
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
