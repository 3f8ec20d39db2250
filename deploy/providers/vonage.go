package providers

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	vonageApplication = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
	vonageSecret      = "standin-vonage-signature-secret-0123456789"
	vonageNumber      = "41445550102"
)

type vonage struct {
	*standin.Vonage
	key  string
	path string
}

func startVonage(address string, _ *Host) (Provider, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	v, err := standin.NewVonage(address, standin.VonageAccount{ApplicationID: vonageApplication, Key: &key.PublicKey}, nil)
	return &vonage{Vonage: v, key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))}, err
}

func (*vonage) Channel() string { return "sms" }
func (*vonage) Name() string    { return "Vonage" }
func (*vonage) Secret() string  { return vonageSecret }

func (v *vonage) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_SMS_VONAGE_URL": v.URL}
}

func (v *vonage) Connect(ctx context.Context, api *mesh.Client) error {
	id, err := connect(ctx, api, nil, mesh.Object{
		"channel": "sms", "name": "Stand-in number at Vonage", "external_id": "+" + vonageNumber,
		"settings":    mesh.Object{"provider": "vonage", "messages_per_second": "1000"},
		"credentials": mesh.Object{"application_id": vonageApplication, "private_key": v.key, "signature_secret": vonageSecret},
	})
	v.path = "/webhooks/sms/" + id
	return err
}

func (v *vonage) Says(person, n int, text string, now time.Time) Webhook {
	body := standin.VonageInbound("sms", fmt.Sprintf("aaaaaaaa-bbbb-4ccc-8ddd-%012d", n), fmt.Sprintf("4178%07d", person), vonageNumber, text, now)
	return Webhook{v.path, standin.VonageHeader(vonageSecret, body, now), body}
}

func (v *vonage) Taken() (all []Message) {
	for _, p := range v.Posts() {
		all = append(all, Message{p.To, p.Text})
	}
	return all
}

// Tells implements Teller.
func (v *vonage) Tells(i int, status string, now time.Time) (Webhook, error) {
	said, code := map[string]string{"delivered": "delivered", "read": "read", "failed": "undeliverable"}[status], ""
	if said == "" {
		return neverSays(v, status)
	}
	if status == "failed" {
		code = "1260" // the number is not known
	}
	body := standin.VonageStatus(v.Posts()[i], said, code, now)
	return Webhook{v.path, standin.VonageHeader(vonageSecret, body, now), body}, nil
}
