// Package providers stands in for all providers at once, each with an account of its own: for whoever runs a mesh
// without the real ones. The demo, the bench and `make standin` do.
package providers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tributary.dev/deploy/mesh"
)

// Provider is one that a mesh has an account at.
type Provider interface {
	// Channel that it is reached by, and a name for people.
	Channel() string
	Name() string
	// Settings of a mesh that shall take the stand-in for the provider.
	Settings() map[string]string
	// Connect makes the account's connection, and its app where it has one, by the API of a mesh.
	Connect(ctx context.Context, api *mesh.Client) error
	// Says is the webhook that tells of a person's nth message. It is signed, and good for some minutes. Connect comes first.
	Says(person, n int, text string, now time.Time) Webhook
	// Secret that its webhooks are signed with.
	Secret() string
	// Taken are the messages that it was given to deliver, in order.
	Taken() []Message
	Close() error
}

// Shop is a provider over which nobody is written to. What its people say is the note of an order, under the number that
// Phone gives.
type Shop interface {
	Provider
	Phone(person int) string
}

// Correspondent is a provider whose people can write at length.
type Correspondent interface {
	Provider
	// SaysAtLength is Says with about 50 kB of what was written before below the text. It costs little more than to sign it.
	SaysAtLength(person, n int, text string, now time.Time) Webhook
}

// Webhook is a request of a provider's, by POST.
type Webhook struct {
	Path   string
	Header http.Header
	Body   []byte
}

// Message that a provider was given.
type Message struct{ To, Text string }

// Host is where stand-ins listen: a loopback address, with the first of their ports; 0: any.
type Host struct {
	Port int
	// Public is the mesh's public URL, which Twilio signs. It may be said later, before the first webhook.
	Public string
}

// Start starts all of them.
func Start(h *Host) (all []Provider, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, Close(all))
		}
	}()
	for i, start := range []func(address string, h *Host) (Provider, error){startSlack, startMessenger, startTwilio, startVonage, startTelegram, startShopify, startPostmark, startSMTP} {
		p, err := start(h.address(i), h)
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Close ends them.
func Close(all []Provider) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Settings of a mesh that shall take all of them for the providers.
func Settings(all []Provider) map[string]string {
	settings := map[string]string{"TRIBUTARY_MEDIA_ALLOW": "127.0.0.0/8"}
	for _, p := range all {
		for name, value := range p.Settings() {
			settings[name] = value
		}
	}
	return settings
}

// connect makes an app, where it is given, and a connection. It gives the id of the latter.
func connect(ctx context.Context, api *mesh.Client, app, connection mesh.Object) (id string, err error) {
	if app != nil {
		made, err := api.Call(ctx, http.MethodPost, "/v1/apps", app, http.StatusCreated)
		if err != nil {
			return "", err
		}
		connection["app_id"] = made.Text("id")
	}
	made, err := api.Call(ctx, http.MethodPost, "/v1/connections", connection, http.StatusCreated)
	return made.Text("id"), err
}
