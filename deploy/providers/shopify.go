package providers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	shopDomain = "standin.myshopify.com"
	shopApp    = "standin-shopify-client"
	shopSecret = "standin-shopify-client-secret"
	shopToken  = "shpat_standin"
)

type shopify struct{ *standin.Shopify }

func startShopify(address string, _ *Host) (Provider, error) {
	s, err := standin.NewShopify(address, shopDomain, shopToken)
	if err == nil {
		s.Install(shopApp, shopSecret)
	}
	return shopify{s}, err
}

func (shopify) Channel() string { return "shopify" }
func (shopify) Name() string    { return "Shopify" }
func (shopify) Secret() string  { return shopSecret }

func (s shopify) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_SHOPIFY_URL": s.URL}
}

func (shopify) Connect(ctx context.Context, api *mesh.Client) error {
	_, err := connect(ctx, api, mesh.Object{
		"channel": "shopify", "name": "standin", "client_id": shopApp, "external_id": "42",
		"secrets": mesh.Object{"signing_secret": shopSecret, "client_secret": shopSecret},
	}, mesh.Object{
		"channel": "shopify", "name": "Stand-in shop", "external_id": shopDomain, "credentials": mesh.Object{"access_token": shopToken},
	})
	return err
}

// Phone of a person: the one that Twilio's have.
func (shopify) Phone(person int) string { return twilioPerson(person) }

func (s shopify) Says(person, n int, text string, now time.Time) Webhook {
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
	return Webhook{"/webhooks/shopify/standin", standin.ShopifyHeader(shopSecret, shopDomain, "orders/create", fmt.Sprintf("standin-%d", n), now, body), body}
}

// Taken is nothing: people are answered elsewhere.
func (shopify) Taken() []Message { return nil }
