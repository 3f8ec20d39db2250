package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Shopify stands in for one shop's REST Admin API: orders and their notes, customers and their tags, pages, and the
// limit of calls.
type Shopify struct {
	*server

	shop, token string
	// OAuth is how the shop's owner installs an app; nil before Install.
	OAuth     *ShopifyOAuth
	orders    []ShopifyObject
	customers []ShopifyObject
	// bucket is how full the leaky bucket was at a time.
	bucket float64
	leaked time.Time
	// granted are the scopes of its tokens; nil: all.
	granted []string
	telling sync.WaitGroup
	closed  bool
	// Now is the shop's time.
	Now func() time.Time
	// Changed is given, after a call that changed an order or a customer, the webhook that tells of it.
	Changed func(topic string, body []byte, at time.Time)
}

// ShopifyObject is an order or a customer as its JSON says it; numbers are json.Number, so that ids stay whole.
type ShopifyObject map[string]any

// What a shop on a standard plan may do (https://shopify.dev/docs/api/admin-rest/usage/rate-limits).
const (
	ShopifyBucket     = 40
	shopifyLeakSecond = 2
)

// NewShopify starts one on address, for one shop (its myshopify.com domain).
func NewShopify(address, shop, accessToken string) (*Shopify, error) {
	s := &Shopify{server: newServer(), shop: shop, token: accessToken, Now: time.Now}
	s.mux.HandleFunc("GET /admin/api/{version}/orders.json", s.call("orders.list", "read_orders", s.list))
	s.mux.HandleFunc("GET /admin/api/{version}/orders/{file}", s.call("orders.get", "read_orders", s.get(&s.orders, "order")))
	s.mux.HandleFunc("PUT /admin/api/{version}/orders/{file}", s.call("orders.update", "write_orders", s.update(&s.orders, "order", "orders/updated")))
	s.mux.HandleFunc("GET /admin/api/{version}/customers/{file}", s.call("customers.get", "read_customers", s.get(&s.customers, "customer")))
	s.mux.HandleFunc("PUT /admin/api/{version}/customers/{file}", s.call("customers.update", "write_customers", s.update(&s.customers, "customer", "customers/update")))
	return s, s.start(address)
}

// Install lets the shop's owner install an app, and the app ask who the shop is.
func (s *Shopify) Install(clientID, clientSecret string) {
	s.OAuth = NewShopifyOAuth(s.mux, ShopifyOAuthConfig{ClientID: clientID, ClientSecret: clientSecret, Shop: s.shop})
	s.OAuth.Allow(s.token)
}

// Grant has tokens of these scopes alone.
func (s *Shopify) Grant(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted = append([]string{}, scopes...)
}

// Close ends the server, once all was told that changed.
func (s *Shopify) Close() error {
	err := s.server.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.telling.Wait()
	return err
}

// ReadShopifyObject reads the JSON of an order or a customer.
func ReadShopifyObject(raw []byte) (o ShopifyObject, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&o)
	return o, err
}

// PutOrder adds an order, or replaces the one of the same id.
func (s *Shopify) PutOrder(o ShopifyObject) { s.put(&s.orders, o) }

// PutCustomer adds a customer, or replaces the one of the same id.
func (s *Shopify) PutCustomer(o ShopifyObject) { s.put(&s.customers, o) }

func (s *Shopify) put(into *[]ShopifyObject, o ShopifyObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(*into, func(other ShopifyObject) bool { return other.id() == o.id() })
	if at >= 0 {
		(*into)[at] = o
		return
	}
	*into = append(*into, o)
}

func (o ShopifyObject) id() string { return fmt.Sprint(o["id"]) }

func (o ShopifyObject) updated() time.Time {
	t, _ := time.Parse(time.RFC3339, fmt.Sprint(o["updated_at"]))
	return t
}

// Order is one that the shop has; nil where it has none.
func (s *Shopify) Order(id string) ShopifyObject { return s.find(&s.orders, id) }

// Customer is one that the shop has; nil where it has none.
func (s *Shopify) Customer(id string) ShopifyObject { return s.find(&s.customers, id) }

func (s *Shopify) find(of *[]ShopifyObject, id string) ShopifyObject {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range *of {
		if o.id() == id {
			return o
		}
	}
	return nil
}

// call is one authorised call, of a token with the scope, that the shop's limit lets through.
func (s *Shopify) call(method, scope string, do func(w http.ResponseWriter, r *http.Request) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("X-Shopify-Access-Token"); token != s.token && !s.OAuth.Alive(token) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":"[API] Invalid API key or access token"}`))
			return
		}
		if !s.taken(w) {
			return
		}
		s.mu.Lock()
		allowed := s.granted == nil || slices.Contains(s.granted, scope)
		s.mu.Unlock()
		if !allowed {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"errors":"[API] This action requires merchant approval for %s scope."}`, scope)
			return
		}
		s.carry(w, r, method, func() (int, any) { return do(w, r) })
	}
}

// taken puts a call into the bucket; where it is full, it answers.
func (s *Shopify) taken(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	if !s.leaked.IsZero() {
		s.bucket = max(0, s.bucket-now.Sub(s.leaked).Seconds()*shopifyLeakSecond)
	}
	s.leaked = now
	if s.bucket > ShopifyBucket-1 {
		w.Header().Set("Retry-After", "2.0")
		w.Header().Set("X-Shopify-Shop-Api-Call-Limit", fmt.Sprintf("%d/%d", ShopifyBucket, ShopifyBucket))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"errors":"Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service."}`))
		return false
	}
	s.bucket++
	w.Header().Set("X-Shopify-Shop-Api-Call-Limit", fmt.Sprintf("%d/%d", int(s.bucket+0.5), ShopifyBucket))
	return true
}

// shopifyPage is what a page_info stands for.
type shopifyPage struct {
	Since, Updated, Order string
	Offset                int
}

// list answers orders.json: updated_at_min, since_id, order, limit, and page_info, which goes with limit alone
// (https://shopify.dev/docs/api/admin-rest/usage/pagination).
func (s *Shopify) list(w http.ResponseWriter, r *http.Request) (int, any) {
	query := r.URL.Query()
	limit, err := strconv.Atoi(query.Get("limit"))
	if query.Get("limit") == "" {
		limit, err = 50, nil
	}
	page := shopifyPage{Since: query.Get("since_id"), Updated: query.Get("updated_at_min"), Order: query.Get("order")}
	if info := query.Get("page_info"); info != "" {
		raw, wrong := base64.RawURLEncoding.DecodeString(info)
		if wrong != nil || json.Unmarshal(raw, &page) != nil || page.Offset < 0 || len(query) > 2 {
			return http.StatusBadRequest, map[string]any{"errors": map[string]string{"page_info": "Invalid value."}}
		}
	}
	var since time.Time
	if page.Updated != "" {
		var wrong error
		if since, wrong = time.Parse(time.RFC3339, page.Updated); wrong != nil {
			err = wrong
		}
	}
	if err != nil || limit < 1 || limit > 250 {
		return http.StatusBadRequest, map[string]any{"errors": "a parameter is invalid"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(s.orders), func(o ShopifyObject) bool {
		return o.updated().Before(since) || page.Since != "" && len(o.id()) <= len(page.Since) && (len(o.id()) < len(page.Since) || o.id() <= page.Since)
	})
	if page.Order == "updated_at asc" {
		slices.SortStableFunc(found, func(a, b ShopifyObject) int { return a.updated().Compare(b.updated()) })
	}
	found = found[min(page.Offset, len(found)):]
	if len(found) > limit {
		found = found[:limit]
		page.Offset += limit
		raw, _ := json.Marshal(page) // texts and a number
		next := url.Values{"limit": {strconv.Itoa(limit)}, "page_info": {base64.RawURLEncoding.EncodeToString(raw)}}
		w.Header().Set("Link", fmt.Sprintf(`<https://%s%s?%s>; rel="next"`, s.shop, r.URL.Path, next.Encode()))
	}
	return http.StatusOK, map[string]any{"orders": append([]ShopifyObject{}, found...)}
}

func (s *Shopify) get(of *[]ShopifyObject, kind string) func(http.ResponseWriter, *http.Request) (int, any) {
	return func(_ http.ResponseWriter, r *http.Request) (int, any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, o := range *of {
			if o.id()+".json" == r.PathValue("file") {
				return http.StatusOK, map[string]any{kind: o}
			}
		}
		return http.StatusNotFound, map[string]any{"errors": "Not Found"}
	}
}

// What Shopify takes (https://shopify.dev/docs/api/admin-rest/latest/resources/customer;
// https://shopify.dev/changelog/note-length-is-now-validated-5000-char).
const (
	shopifyNote = 5000
	shopifyTags = 250
	shopifyTag  = 255
)

// update sets note and tags, and when that was.
func (s *Shopify) update(of *[]ShopifyObject, kind, topic string) func(http.ResponseWriter, *http.Request) (int, any) {
	return func(_ http.ResponseWriter, r *http.Request) (int, any) {
		var asked map[string]struct{ Note, Tags *string }
		if json.NewDecoder(r.Body).Decode(&asked) != nil || asked[kind].Note == nil && asked[kind].Tags == nil {
			return http.StatusBadRequest, map[string]any{"errors": map[string]string{kind: "Required parameter missing or invalid"}}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.IndexFunc(*of, func(o ShopifyObject) bool { return o.id()+".json" == r.PathValue("file") })
		if i < 0 {
			return http.StatusNotFound, map[string]any{"errors": "Not Found"}
		}
		changed := maps.Clone((*of)[i])
		if note := asked[kind].Note; note != nil {
			if utf8.RuneCountInString(*note) > shopifyNote {
				return http.StatusUnprocessableEntity, map[string]any{"errors": map[string][]string{"note": {"is too long (maximum is 5000 characters)"}}}
			}
			changed["note"] = *note
		}
		if tags := asked[kind].Tags; tags != nil {
			kept := shopifyTagsOf(*tags)
			if len(kept) > shopifyTags || slices.ContainsFunc(kept, func(t string) bool { return utf8.RuneCountInString(t) > shopifyTag }) {
				return http.StatusUnprocessableEntity, map[string]any{"errors": map[string][]string{"tags": {"is invalid"}}}
			}
			changed["tags"] = strings.Join(kept, ", ")
		}
		changed["updated_at"] = s.Now().UTC().Format(time.RFC3339)
		(*of)[i] = changed
		s.tell(topic, changed)
		return http.StatusOK, map[string]any{kind: changed}
	}
}

// shopifyTagsOf are the tags of a text as Shopify keeps them: in order, each once, whatever its case.
func shopifyTagsOf(text string) (kept []string) {
	for tag := range strings.SplitSeq(text, ",") {
		tag = strings.TrimSpace(tag)
		if tag != "" && !slices.ContainsFunc(kept, func(other string) bool { return strings.EqualFold(other, tag) }) {
			kept = append(kept, tag)
		}
	}
	slices.Sort(kept)
	return kept
}

// tell gives Changed what changed, under s.mu; the call that did it is not kept waiting.
func (s *Shopify) tell(topic string, what ShopifyObject) {
	if s.Changed == nil || s.closed {
		return
	}
	body, _ := json.Marshal(what) // it was JSON
	at := time.Now()
	s.telling.Go(func() { s.Changed(topic, body, at) })
}

// ShopifySignature is the X-Shopify-Hmac-SHA256 of a body.
func ShopifySignature(clientSecret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(clientSecret))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ShopifyHeader is what a webhook comes with. eventID names what happened; a retry has the same.
func ShopifyHeader(clientSecret, shop, topic, eventID string, triggered time.Time, body []byte) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Shopify-Captain-Hook", "X-Shopify-Topic": topic,
		"X-Shopify-Shop-Domain": strings.ToLower(shop), "X-Shopify-API-Version": "2026-10", "X-Shopify-Event-Id": eventID,
		"X-Shopify-Webhook-Id": eventID, "X-Shopify-Triggered-At": triggered.UTC().Format(time.RFC3339Nano),
		"X-Shopify-Hmac-SHA256": ShopifySignature(clientSecret, body),
	} {
		h.Set(name, value)
	}
	return h
}
