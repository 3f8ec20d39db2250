package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	goshopify "github.com/bold-commerce/go-shopify/v3"
)

// shopScopes are what contacts, orders and what follows from them need; write for notes and tags.
const shopScopes = "read_customers,read_fulfillments,read_orders,write_customers,write_orders"

// shopTopics are what a shop sends. Those that privacy law asks for (customers/redact …) are set at the app itself.
var shopTopics = []string{
	"app/uninstalled", "checkouts/create", "checkouts/update", "customers/create", "customers/delete", "customers/update",
	"fulfillments/create", "fulfillments/update", "orders/cancelled", "orders/create", "orders/fulfilled", "orders/paid",
	"orders/updated", "refunds/create",
}

var (
	shopDomain  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,60}\.myshopify\.com$`)
	shopVersion = regexp.MustCompile(`^20[0-9]{2}-(01|04|07|10)$`)
)

// ShopDomain tells whether a text is a shop's own domain at Shopify: nothing else is ever asked or sent to.
func ShopDomain(shop string) bool { return shopDomain.MatchString(shop) }

// shopify speaks to Shopify
// (https://shopify.dev/docs/apps/build/authentication-authorization/authenticate-standalone-apps).
type shopify struct {
	// url has {shop} where the shop's domain goes.
	url, version string
	scopes       []string
	http         *http.Client
	api          caller
}

func (s *shopify) AuthoriseURL(app App, try Attempt) (string, error) {
	if !ShopDomain(try.Shop) {
		return "", &Fault{Code: "not_a_shop", Field: "shop"}
	}
	return withQuery(s.at(try.Shop)+"/admin/oauth/authorize", url.Values{
		"client_id": {app.ClientID}, "scope": {strings.Join(s.scopes, ",")}, "redirect_uri": {try.RedirectURL}, "state": {try.State},
	})
}

// Exchange checks that Shopify made the answer, for the shop that was asked, and takes an offline token for its code:
// one that expires and can be refreshed, where Shopify gives those (public apps get no others).
func (s *shopify) Exchange(ctx context.Context, app App, try Attempt, answer url.Values) ([]Account, error) {
	ours := goshopify.App{ApiKey: app.ClientID, ApiSecret: app.ClientSecret}
	if genuine, err := ours.VerifyAuthorizationURL(&url.URL{RawQuery: answer.Encode()}); err != nil || !genuine {
		return nil, &Fault{Code: "bad_hmac"}
	}
	if shop := answer.Get("shop"); !ShopDomain(shop) || shop != try.Shop {
		return nil, &Fault{Code: "other_shop"}
	}
	if err := cancelled(answer); err != nil {
		return nil, err
	}
	a, scope, err := s.token(ctx, app, try.Shop, map[string]string{"code": answer.Get("code"), "expiring": "1"})
	if err != nil {
		return nil, err
	}
	granted := words(scope)
	for _, needed := range s.scopes {
		if !slices.Contains(granted, needed) && !slices.Contains(granted, strings.Replace(needed, "read_", "write_", 1)) {
			return nil, &Fault{Code: "scope_missing"}
		}
	}
	return []Account{a}, nil
}

// token asks for an offline access token
// (https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/offline-access-tokens).
func (s *shopify) token(ctx context.Context, app App, shop string, grant map[string]string) (a Account, scope string, err error) {
	grant["client_id"], grant["client_secret"] = app.ClientID, app.ClientSecret
	var granted struct {
		AccessToken  string `json:"access_token"`
		Scope        string
		ExpiresIn    int64  `json:"expires_in"`
		RefreshToken string `json:"refresh_token"`
	}
	err = s.call(ctx, request{method: http.MethodPost, url: s.at(shop) + "/admin/oauth/access_token", body: grant}, &granted)
	if err != nil {
		return a, "", err
	}
	if granted.AccessToken == "" {
		return a, "", &Fault{Code: "no_token"}
	}
	a = Account{ExternalID: shop, Name: shop, Credentials: map[string]string{"access_token": granted.AccessToken}}
	if granted.RefreshToken != "" && granted.ExpiresIn > 0 {
		a.Refresh, a.Lifetime = granted.RefreshToken, time.Duration(granted.ExpiresIn)*time.Second
	}
	return a, granted.Scope, nil
}

// Attach registers the webhooks that the shop does not have yet.
func (s *shopify) Attach(ctx context.Context, app App, a Account) error {
	if !absolute(app.WebhookURL) {
		return &Fault{Code: "no_public_address"}
	}
	client := s.client(ctx, app, a)
	there, err := client.Webhook.List(goshopify.WebhookOptions{Address: app.WebhookURL})
	if err != nil {
		return shopError(err)
	}
	for _, topic := range shopTopics {
		has := func(w goshopify.Webhook) bool { return w.Topic == topic && w.Address == app.WebhookURL }
		if slices.ContainsFunc(there, has) {
			continue
		}
		_, err := client.Webhook.Create(goshopify.Webhook{Topic: topic, Address: app.WebhookURL, Format: "json"})
		if err := shopError(err); err != nil && !taken(err) {
			return err
		}
	}
	return nil
}

// taken: somebody registered the same webhook meanwhile.
func taken(err error) bool { return Reason(err) == "http_422" }

// Check asks the shop who it is.
func (s *shopify) Check(ctx context.Context, app App, a Account) error {
	shop, err := s.client(ctx, app, a).Shop.Get(nil)
	if err != nil {
		return shopError(err)
	}
	if shop.MyshopifyDomain != "" && shop.MyshopifyDomain != a.ExternalID {
		return &Fault{Code: "other_account", Field: "external_id"}
	}
	return nil
}

// Refresh buys a new token; the one before ends.
func (s *shopify) Refresh(ctx context.Context, app App, a Account) (Account, error) {
	fresh, _, err := s.token(ctx, app, a.ExternalID, map[string]string{"grant_type": "refresh_token", "refresh_token": a.Refresh})
	return fresh, err
}

// Revoke uninstalls the app, which ends its tokens and webhooks
// (https://shopify.dev/docs/apps/build/authentication-authorization/app-installation/uninstall-app-api-request).
func (s *shopify) Revoke(ctx context.Context, app App, a Account) error {
	uninstall := func(token string) error {
		return s.call(ctx, request{
			method: http.MethodDelete, url: s.at(a.ExternalID) + "/admin/api_permissions/current.json",
			header: http.Header{"X-Shopify-Access-Token": {token}},
		}, nil)
	}
	err := uninstall(a.Credentials["access_token"])
	if Void(err) && a.Refresh != "" { // the token had ended by itself: the app may still be there
		var fresh Account
		if fresh, err = s.Refresh(ctx, app, a); err == nil {
			err = uninstall(fresh.Credentials["access_token"])
		}
	}
	return done(err)
}

// SetOrderNote sends the note alone. The library's own Order leaves out an empty one, and has zeros that are sent
// (https://shopify.dev/docs/api/admin-rest/latest/resources/order).
func (s *shopify) SetOrderNote(ctx context.Context, app App, a Account, order uint64, note string) (string, error) {
	type noted struct {
		ID   uint64 `json:"id"`
		Note string `json:"note"`
	}
	var has struct{ Order noted }
	ask := map[string]noted{"order": {order, note}}
	if err := s.client(ctx, app, a).Put(fmt.Sprintf("orders/%d.json", order), ask, &has); err != nil {
		return "", shopError(err)
	}
	if has.Order.ID != order {
		return "", &Fault{Code: "unreadable_answer"}
	}
	return has.Order.Note, nil
}

// SetCustomerTags sends the tags alone, as the one text that Shopify keeps them in
// (https://shopify.dev/docs/api/admin-rest/latest/resources/customer).
func (s *shopify) SetCustomerTags(ctx context.Context, app App, a Account, customer uint64, tags []string) ([]string, error) {
	type tagged struct {
		ID   uint64 `json:"id"`
		Tags string `json:"tags"`
	}
	var has struct{ Customer tagged }
	ask := map[string]tagged{"customer": {customer, strings.Join(tags, ", ")}}
	if err := s.client(ctx, app, a).Put(fmt.Sprintf("customers/%d.json", customer), ask, &has); err != nil {
		return nil, shopError(err)
	}
	if has.Customer.ID != customer {
		return nil, &Fault{Code: "unreadable_answer"}
	}
	kept := []string{}
	for tag := range strings.SplitSeq(has.Customer.Tags, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			kept = append(kept, tag)
		}
	}
	return kept, nil
}

func (s *shopify) at(shop string) string { return strings.ReplaceAll(s.url, "{shop}", shop) }

// client has ctx's end, which the library has no place for, and goes where the shop, or its stand-in, is.
func (s *shopify) client(ctx context.Context, app App, a Account) *goshopify.Client {
	bounded := *s.http
	bounded.Transport = &shopTransport{ctx: ctx, at: s.at(a.ExternalID), next: s.http.Transport}
	return goshopify.NewClient(goshopify.App{ApiKey: app.ClientID, ApiSecret: app.ClientSecret}, a.ExternalID, a.Credentials["access_token"],
		goshopify.WithVersion(s.version), goshopify.WithHTTPClient(&bounded))
}

type shopTransport struct {
	ctx  context.Context
	at   string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *shopTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := url.Parse(t.at)
	if err != nil {
		return nil, err
	}
	r = r.Clone(t.ctx)
	r.URL.Scheme, r.URL.Host, r.Host = at.Scheme, at.Host, at.Host
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	//bound:exempt maxAnswer says it; the library would read all that comes
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}

func (s *shopify) call(ctx context.Context, r request, out any) error {
	status, refusal, err := s.api.do(ctx, r, out)
	if err != nil || status/100 == 2 {
		return err
	}
	var answer struct{ Error string }
	_ = json.Unmarshal(refusal, &answer) // without a word of its own the status says it
	return shopRefusal(status, answer.Error)
}

func shopError(err error) error {
	var limited goshopify.RateLimitError
	var refused goshopify.ResponseError
	var unread goshopify.ResponseDecodingError
	var network *url.Error
	switch {
	case errors.As(err, &limited):
		f := statusFault(http.StatusTooManyRequests)
		f.RetryAfter = time.Duration(limited.RetryAfter) * time.Second
		return f
	case errors.As(err, &refused) && refused.Status == http.StatusForbidden && strings.Contains(refused.Message, "merchant approval"):
		return &Fault{Code: "scope_missing"} // "… requires merchant approval for write_orders scope"; other apps are told other things
	case errors.As(err, &refused):
		return shopRefusal(refused.Status, "")
	case errors.As(err, &unread) && unread.Status/100 == 5:
		return statusFault(unread.Status) // what stands before Shopify speaks HTML
	case err == nil, errors.As(err, &network):
		return err
	}
	return &Fault{Code: "unreadable_answer"} // the library's error may quote it
}

// shopRefusal: 401 is for tokens that are none any more; invalid_grant for a refresh token or a code.
func shopRefusal(status int, code string) *Fault {
	f := statusFault(status)
	if code != "" {
		f.Code = word(code)
	}
	if code == "invalid_grant" || status == http.StatusUnauthorized && code != "invalid_client" {
		f.Void, f.Field = true, "credentials/access_token"
	}
	return f
}
