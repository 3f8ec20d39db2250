package providers

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	twilioAccount = "AC0000000000000000000000000000057a"
	twilioToken   = "standin-twilio-auth-token"
	twilioNumber  = "+41445550101"
)

type twilio struct {
	*standin.Twilio
	host *Host
	path string // of its webhooks, once connected
}

func startTwilio(address string, h *Host) (Provider, error) {
	t, err := standin.NewTwilio(address, twilioAccount, twilioToken, nil)
	return &twilio{Twilio: t, host: h}, err
}

func (*twilio) Channel() string { return "sms" }
func (*twilio) Name() string    { return "Twilio" }
func (*twilio) Secret() string  { return twilioToken }

func (t *twilio) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_SMS_TWILIO_URL": t.URL}
}

func (t *twilio) Connect(ctx context.Context, api *mesh.Client) error {
	id, err := connect(ctx, api, nil, mesh.Object{
		"channel": "sms", "name": "Stand-in number at Twilio", "external_id": twilioNumber,
		"credentials": mesh.Object{"account_sid": twilioAccount, "auth_token": twilioToken},
		"settings":    mesh.Object{"messages_per_second": "1000"},
	})
	t.path = "/webhooks/sms/" + id
	return err
}

func (t *twilio) Says(person, n int, text string, _ time.Time) Webhook {
	form := standin.TwilioInbound(twilioAccount, fmt.Sprintf("SM%032x", n), twilioPerson(person), twilioNumber, text)
	return Webhook{t.path, standin.TwilioHeader(twilioToken, t.host.Public+t.path, form), []byte(form.Encode())}
}

// twilioPerson is a person's number.
func twilioPerson(person int) string { return fmt.Sprintf("+4179%07d", person) }

func (t *twilio) Taken() (all []Message) {
	for _, p := range t.Posts() {
		all = append(all, Message{p.To, p.Body})
	}
	return all
}

// Tells implements Teller.
func (t *twilio) Tells(i int, status string, _ time.Time) (Webhook, error) {
	said, code := map[string]string{"delivered": "delivered", "read": "read", "failed": "undelivered"}[status], ""
	if said == "" {
		return neverSays(t, status)
	}
	if status == "failed" {
		code = "30005" // the number is not known
	}
	p := t.Posts()[i]
	callback, err := url.Parse(p.StatusCallback)
	if err != nil {
		return Webhook{}, err
	}
	form := standin.TwilioStatus(twilioAccount, p, said, code)
	return Webhook{callback.RequestURI(), standin.TwilioHeader(twilioToken, p.StatusCallback, form), []byte(form.Encode())}, nil
}
