package providers

import (
	"context"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	postmarkToken   = "standin-postmark-server-token"
	postmarkSecret  = "standin-postmark-webhook-secret"
	postmarkMailbox = "help@postmark.standin.example"
)

type postmark struct {
	*standin.Postmark
	path string
}

func startPostmark(address string, _ *Host) (Provider, error) {
	p, err := standin.NewPostmark(address, postmarkToken)
	return &postmark{Postmark: p}, err
}

func (*postmark) Channel() string { return "email" }
func (*postmark) Name() string    { return "Postmark" }
func (*postmark) Secret() string  { return postmarkSecret }

func (p *postmark) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_EMAIL_POSTMARK_URL": p.URL}
}

func (p *postmark) Connect(ctx context.Context, api *mesh.Client) error {
	id, err := connect(ctx, api, nil, mesh.Object{
		"channel": "email", "name": "Stand-in mailbox at Postmark", "external_id": postmarkMailbox,
		"credentials": mesh.Object{"server_token": postmarkToken, "webhook_secret": postmarkSecret},
	})
	p.path = "/webhooks/email/" + id
	return err
}

func (p *postmark) Says(person, n int, text string, _ time.Time) Webhook {
	body := standin.PostmarkInbound(fmt.Sprintf("%d@mail.example", n), mailPerson(person), postmarkMailbox, "Is it on its way?", text, nil)
	return Webhook{p.path, standin.PostmarkAuthorisation(postmarkSecret), body}
}

// mailPerson is a person's address.
func mailPerson(person int) string { return fmt.Sprintf("person-%d@mail.example", person) }

func (p *postmark) Taken() (all []Message) {
	for _, m := range p.Mails() {
		all = append(all, Message{m.To, m.TextBody})
	}
	return all
}

// Tells implements Teller.
func (p *postmark) Tells(i int, status string, _ time.Time) (Webhook, error) {
	said := map[string][2]string{"delivered": {"Delivery", ""}, "failed": {"Bounce", "HardBounce"}}[status]
	if said[0] == "" {
		return neverSays(p, status)
	}
	return Webhook{p.path, standin.PostmarkAuthorisation(postmarkSecret), standin.PostmarkRecord(said[0], said[1], p.Mails()[i])}, nil
}
