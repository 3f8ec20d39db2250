package providers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	shopDomain = "standin.myshopify.com"
	shopApp    = "standin-shopify-client"
	shopSecret = "standin-shopify-client-secret"
	shopToken  = "shpat_standin"
	shopHook   = "/webhooks/shopify/standin"
)

type shopify struct {
	*standin.Shopify
	host *Host

	mu    sync.Mutex
	taken []Message
}

func startShopify(address string, h *Host) (Provider, error) {
	shop, err := standin.NewShopify(address, shopDomain, shopToken)
	s := &shopify{Shopify: shop, host: h}
	if err == nil {
		s.Install(shopApp, shopSecret)
		s.Changed = s.tell
	}
	return s, err
}

func (*shopify) Channel() string { return "shopify" }
func (*shopify) Name() string    { return "Shopify" }
func (*shopify) Secret() string  { return shopSecret }

func (s *shopify) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_SHOPIFY_URL": s.URL}
}

func (s *shopify) Connect(ctx context.Context, api *mesh.Client) error {
	s.OAuth.Allow(shopToken) // it was revoked, if the shop was disconnected
	_, err := connect(ctx, api, mesh.Object{
		"channel": "shopify", "name": "standin", "client_id": shopApp, "external_id": "42",
		"secrets": mesh.Object{"signing_secret": shopSecret, "client_secret": shopSecret},
	}, mesh.Object{
		"channel": "shopify", "name": "Stand-in shop", "external_id": shopDomain, "credentials": mesh.Object{"access_token": shopToken},
	})
	return err
}

// Phone of a person: the one that Twilio's have.
func (*shopify) Phone(person int) string { return twilioPerson(person) }

func (s *shopify) Says(person, n int, text string, now time.Time) Webhook {
	at := now.UTC().Format(time.RFC3339)
	order := map[string]any{
		"id": 5_000_000_000_000 + n, "name": fmt.Sprintf("#%d", 1000+n), "phone": s.Phone(person), "email": "", "note": text,
		"created_at": at, "updated_at": at, "currency": "CHF", "total_price": "129.90", "financial_status": "paid", "fulfillment_status": nil,
		"cancelled_at": nil, "closed_at": nil, "tags": "", "order_status_url": "https://" + shopDomain + "/orders/" + fmt.Sprint(n),
		"customer":   map[string]any{"id": 7_000_000_000_000 + person, "phone": s.Phone(person)},
		"line_items": []any{map[string]any{"id": 9_000_000_000_000 + n, "title": "Kettle", "sku": "KET-1", "quantity": 1, "price": "129.90"}},
		"refunds":    []any{}, "fulfillments": []any{},
	}
	body, err := json.Marshal(order)
	if err != nil {
		panic(err) // text and numbers always encode
	}
	return Webhook{shopHook, standin.ShopifyHeader(shopSecret, shopDomain, "orders/create", fmt.Sprintf("standin-%d", n), now, body), body}
}

// Keep has the shop have the order, and the customer.
func (s *shopify) Keep(said Webhook) {
	order := object(said.Body)
	s.PutOrder(order)
	customer := standin.ShopifyObject(order["customer"].(map[string]any))
	if s.Customer(fmt.Sprint(customer["id"])) == nil {
		s.PutCustomer(customer)
	}
}

func object(raw []byte) standin.ShopifyObject {
	o, err := standin.ReadShopifyObject(raw)
	if err != nil {
		panic(err) // it is of our making
	}
	return o
}

// tell sends the mesh the webhook of what it has changed. One that does not arrive is as one of Shopify's that does not.
func (s *shopify) tell(topic string, body []byte, at time.Time) {
	o := object(body)
	set := Message{fmt.Sprintf("order %v", o["id"]), fmt.Sprint(o["note"])}
	if topic == "customers/update" {
		set = Message{fmt.Sprintf("customer %v", o["id"]), fmt.Sprint(o["tags"])}
	}
	s.mu.Lock()
	s.taken = append(s.taken, set)
	id := fmt.Sprintf("standin-changed-%d", len(s.taken))
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = mesh.NewClient(s.host.Public).Webhook(ctx, shopHook, standin.ShopifyHeader(shopSecret, shopDomain, topic, id, at, body), body)
}

// Taken are the notes and tags that were set: people are answered elsewhere.
func (s *shopify) Taken() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}
