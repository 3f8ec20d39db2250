// Package providers stands in for all providers at once, each with an account of its own: for whoever runs a mesh
// without the real ones. The demo, the bench and `make standin` do.
package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
// Phone gives; Taken are notes of orders and tags of customers that were set.
type Shop interface {
	Provider
	Phone(person int) string
	// Keep has the shop have the order that Says told of, so that its note and its customer's tags can be set. The shop
	// tells the mesh of each such change.
	Keep(said Webhook)
}

// Teller is a provider that tells what became of a message.
type Teller interface {
	Provider
	// Tells is the webhook that says that the ith message of Taken is delivered, read or failed. An error: this provider never
	// says so.
	Tells(i int, status string, now time.Time) (Webhook, error)
}

// Correspondent is a provider whose people can write at length.
type Correspondent interface {
	Provider
	// SaysAtLength is Says with about 50 kB of what was written before below the text. It costs little more than to sign it.
	SaysAtLength(person, n int, text string, now time.Time) Webhook
}

// Withdrawer is a provider that tells when who connected its account by a link takes that back.
type Withdrawer interface {
	Provider
	// Withdraws is its callback: that they have taken the app off their account, or, where erase, that they ask for the deletion
	// of their data. It is signed.
	Withdraws(erase bool, now time.Time) Webhook
}

// Webhook is a request of a provider's, by POST.
type Webhook struct {
	Path   string
	Header http.Header
	Body   []byte
}

// neverSays is the error of a Teller.
func neverSays(p Provider, status string) (Webhook, error) {
	return Webhook{}, fmt.Errorf("%s never says that a message is %q", p.Name(), status)
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

// connect makes an app, where it is given, and a connection. It gives the id of the latter. What is there already gets
// the stand-in's secrets.
func connect(ctx context.Context, api *mesh.Client, app, connection mesh.Object) (id string, err error) {
	if app != nil {
		if connection["app_id"], err = appOf(ctx, api, app); err != nil {
			return "", err
		}
	}
	status, raw, err := api.Raw(ctx, http.MethodPost, "/v1/connections", connection)
	var made mesh.Object
	switch {
	case err != nil:
		return "", err
	case status != http.StatusCreated && status != http.StatusOK:
		return "", fmt.Errorf("POST /v1/connections: %d: %s", status, raw)
	}
	err = json.Unmarshal(raw, &made)
	return made.Text("id"), err
}

// appOf makes an app or, where there is one of its name, gives that its secrets.
func appOf(ctx context.Context, api *mesh.Client, app mesh.Object) (id string, err error) {
	status, raw, err := api.Raw(ctx, http.MethodPost, "/v1/apps", app)
	if err != nil {
		return "", err
	}
	var made mesh.Object
	if status == http.StatusCreated {
		err = json.Unmarshal(raw, &made)
		return made.Text("id"), err
	}
	if status != http.StatusConflict {
		return "", fmt.Errorf("POST /v1/apps: %d: %s", status, raw)
	}
	for query := ""; ; {
		page, err := api.Call(ctx, http.MethodGet, "/v1/apps"+query, nil, http.StatusOK)
		if err != nil {
			return "", err
		}
		for _, there := range page.List("items") {
			if there.Text("channel") == app["channel"] && there.Text("name") == app["name"] {
				_, err := api.Call(ctx, http.MethodPatch, "/v1/apps/"+there.Text("id"), mesh.Object{"secrets": app["secrets"]}, http.StatusOK)
				return there.Text("id"), err
			}
		}
		if page.Text("next_cursor") == "" {
			return "", fmt.Errorf("an app of the name %v is another workspace's", app["name"])
		}
		query = "?cursor=" + url.QueryEscape(page.Text("next_cursor"))
	}
}
