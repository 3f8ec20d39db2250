package providers

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	metaApp, metaPage = "1234567890", "100000000000001"
	metaSecret        = "standin-meta-app-secret"
	metaPageToken     = "EAAstandin"
)

type messenger struct{ *standin.Graph }

func startMessenger(address string, _ *Host) (Provider, error) {
	g, err := standin.NewGraph(address, metaApp, metaSecret, map[string]string{metaPage: metaPageToken})
	return messenger{g}, err
}

func (messenger) Channel() string { return "messenger" }
func (messenger) Name() string    { return "Messenger" }
func (messenger) Secret() string  { return metaSecret }

func (m messenger) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_MESSENGER_GRAPH_URL": m.URL, "TRIBUTARY_CONNECT_FACEBOOK_URL": m.URL}
}

func (messenger) Connect(ctx context.Context, api *mesh.Client) error {
	_, err := connect(ctx, api, mesh.Object{
		"channel": "messenger", "name": "standin", "external_id": metaApp, "client_id": metaApp,
		"secrets": mesh.Object{"signing_secret": metaSecret, "client_secret": metaSecret, "verify_token": "standin"},
	}, mesh.Object{
		"channel": "messenger", "name": "Stand-in Page", "external_id": metaPage, "credentials": mesh.Object{"page_token": metaPageToken},
	})
	return err
}

func (messenger) Says(person, n int, text string, now time.Time) Webhook {
	body := standin.GraphWebhook(metaPage, now, standin.MessengerMessage(metaPage, strconv.Itoa(20_000_000+person), fmt.Sprintf("m_standin%d", n), now, text))
	return Webhook{"/webhooks/messenger/standin", standin.GraphHeader(metaSecret, body), body}
}

func (messenger) Withdraws(erase bool, now time.Time) Webhook {
	callback := "deauthorise"
	if erase {
		callback = "data_deletion"
	}
	header, body := standin.GraphCallback(metaSecret, standin.GraphUser, now)
	return Webhook{"/webhooks/messenger/standin?callback=" + callback, header, body}
}

func (m messenger) Taken() (all []Message) {
	for _, p := range m.Posts() {
		all = append(all, Message{p.PSID, p.Text})
	}
	return all
}

// Tells implements Teller.
func (m messenger) Tells(i int, status string, now time.Time) (Webhook, error) {
	p := m.Posts()[i]
	var item map[string]any
	switch status {
	case "delivered":
		item = standin.MessengerDelivery(metaPage, p.PSID, now, p.MID)
	case "read":
		item = standin.MessengerRead(metaPage, p.PSID, now, now)
	default:
		return neverSays(m, status)
	}
	body := standin.GraphWebhook(metaPage, now, item)
	return Webhook{"/webhooks/messenger/standin", standin.GraphHeader(metaSecret, body), body}, nil
}
