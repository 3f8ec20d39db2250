package shopify

import (
	"errors"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// maxNested refunds, and fulfilments, of one order are read.
const maxNested = 1000

// Normalise reads one webhook. Which topic it is of stands in a header.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return channel.Result{}, errors.New("shopify: content type is not JSON")
	}
	n := &normaliser{
		topic: word(r.Header.Get("X-Shopify-Topic")), shop: r.Header.Get("X-Shopify-Shop-Domain"),
		version: word(r.Header.Get("X-Shopify-API-Version")), triggered: timeOf(r.Header.Get("X-Shopify-Triggered-At")),
		delivery: deliveryID(r.Header.Get("X-Shopify-Event-Id"), r.Header.Get("X-Shopify-Webhook-Id")),
	}
	if !shopDomain.MatchString(n.shop) {
		n.shop = ""
	}
	err := n.webhook(r.Body)
	return n.result, err
}

// normaliser turns what one shop says into events.
type normaliser struct {
	topic, shop, version string
	// triggered is when Shopify says that it happened, delivery which event it is: both in headers that nobody signed.
	triggered time.Time
	delivery  string
	// polled is when a poll asked.
	polled time.Time
	result channel.Result
}

func (n *normaliser) webhook(body []byte) error {
	switch n.topic {
	case "orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled", "orders/partially_fulfilled":
		o := &order{}
		return n.read(body, o, func() { n.order(o) })
	case "checkouts/create", "checkouts/update":
		c := &checkout{}
		return n.read(body, c, func() { n.object(c.state(), partyOf(c.Email, c.Phone, c.Locale, c.Customer)) })
	case "fulfillments/create", "fulfillments/update":
		f := &fulfilment{}
		return n.read(body, f, func() { n.object(f.state(), partyOf(f.Email, "", "", customer{})) })
	case "customers/create", "customers/update":
		c := &customer{}
		return n.read(body, c, func() { n.customer(c) })
	case "customers/data_request", "customers/redact", "shop/redact":
		p := &privacyRequest{}
		return n.read(body, p, func() { n.privacy(p) })
	case "app/uninstalled":
		return n.read(body, &claims{}, n.uninstalled)
	default: // refunds/create and orders/edited name nobody: what they say comes with the order too
		return n.read(body, &claims{}, func() { n.unknown(n.topic) })
	}
}

// read reads a body into v, and then does what is to be done with it if it is what the headers say.
func (n *normaliser) read(body []byte, v interface{ says() *claims }, then func()) error {
	if err := channel.DecodeObject(body, v); err != nil {
		return err
	}
	if n.shop == "" || v.says().notOf(n.shop, n.topic) {
		n.fault("shop")
		return nil
	}
	then()
	return nil
}

// order gives the order and what hangs on it.
func (n *normaliser) order(o *order) {
	email := o.Email
	if inMail(email) == "" {
		email = o.ContactEmail
	}
	who := partyOf(email, o.Phone, o.Locale, o.Customer)
	n.object(o.state(), who)
	if o.ID == "" {
		return
	}
	for i := range o.Refunds[:min(len(o.Refunds), maxNested)] {
		r := &o.Refunds[i]
		r.OrderID = o.ID
		n.object(r.state(), who)
	}
	for i := range o.Fulfillments[:min(len(o.Fulfillments), maxNested)] {
		f := &o.Fulfillments[i]
		f.OrderID = o.ID
		n.object(f.state(), who)
	}
}

// object gives a state to each of the identities that it names.
func (n *normaliser) object(s state, who party) {
	if s.order == 0 {
		s.order = placed(n.triggered)
	}
	child := s.Kind == "refund" || s.Kind == "fulfilment"
	switch {
	case s.ID == "" || child && s.Parent == "":
		n.fault(s.Kind)
		return
	case s.order == 0:
		n.fault(s.Kind + ".time")
		return
	}
	s.order += n.seen(s.order)
	s.CustomerID, s.APIVersion = who.customer, n.version
	named := who.identities(n.shop)
	if len(named) == 0 {
		n.unknown(s.Kind + ".nobody")
		return
	}
	for i := range named {
		commerce := s.Commerce
		commerce.Email, commerce.Phone = who.known(named[i].Kind)
		n.add(channel.Event{
			Type: channel.TypeCommerce, SourceType: n.topic, Key: key(s.Kind, s.ID, s.order, named[i].Kind), Order: s.order,
			IDTime: time.UnixMicro(s.order).UTC(), ActedAt: s.placed, Author: &named[i], Profile: who.profile(named[i].Kind), Commerce: &commerce,
		})
	}
}

// customer tells what the shop knows of who has a mail address, or a number.
func (n *normaliser) customer(c *customer) {
	at := placed(later(c.UpdatedAt.Time, c.CreatedAt.Time))
	if at == 0 {
		at = placed(n.triggered)
	}
	if c.ID == "" || at == 0 {
		n.fault("customer")
		return
	}
	at += n.seen(at)
	who := partyOf("", "", "", *c)
	for _, named := range who.identities(n.shop) {
		n.add(channel.Event{
			Type: channel.TypeProfile, SourceType: n.topic, Key: key("customer", string(c.ID), at, named.Kind), Order: at,
			IDTime: time.UnixMicro(at).UTC(), Author: &named, Profile: who.profile(named.Kind),
		})
	}
}

// seen is what a state's place has beyond what placed gives: when Shopify told of it, within the second that it is of. What
// it told of later is the second's last. A poll that asked too soon after, by a clock that is not Shopify's, may have seen
// what was not the last; another asks again.
func (n *normaliser) seen(order int64) int64 {
	const second, soon = int64(time.Second / time.Microsecond), 10 * time.Second
	if order%second%moments != 0 { // a time with a fraction
		return 0
	}
	began := time.UnixMicro(order - order%second)
	if !n.polled.IsZero() {
		if n.polled.Sub(began) < soon {
			return 0
		}
		return moments - 1
	}
	if n.triggered.IsZero() {
		return 0
	}
	after := min(max(n.triggered.Sub(began), 0), time.Second)
	return int64(after * (moments - 1) / time.Second)
}

// privacyRequest is what customers/data_request, customers/redact and shop/redact carry
// (https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance).
type privacyRequest struct {
	claims
	ShopID      id       `json:"shop_id"`
	Customer    customer `json:"customer"`
	Requested   []id     `json:"orders_requested"`
	Redacted    []id     `json:"orders_to_redact"`
	DataRequest struct {
		ID id `json:"id"`
	} `json:"data_request"`
}

// privacy passes a request on, to each identity that data may lie under; that of a whole shop names nobody. A
// repetition is the same one.
func (n *normaliser) privacy(p *privacyRequest) {
	details := map[string]string{"shop_id": string(p.ShopID), "customer_id": string(p.Customer.ID), "request_id": string(p.DataRequest.ID)}
	for _, o := range append(p.Requested, p.Redacted...) {
		if o != "" {
			details["orders"] = strings.TrimPrefix(details["orders"]+","+string(o), ",")
		}
	}
	for name, value := range details {
		if value == "" {
			delete(details, name)
		}
	}
	event := channel.Event{Type: channel.TypePrivacy, SourceType: n.topic, Reason: n.topic, Order: placed(n.triggered), Technical: details}
	event.Key = n.topic + ":" + n.delivery
	if n.delivery == "" {
		event.Key = n.topic + ":" + string(p.ShopID) + ":" + string(p.Customer.ID) + ":" + string(p.DataRequest.ID)
	}
	if n.topic == "shop/redact" {
		event.Technical = nil // nobody's, so nobody's key seals it
		n.add(event)
		return
	}
	who := partyOf("", "", "", p.Customer)
	named := who.identities(n.shop)
	if who.customer != "" && (len(named) == 0 || named[0].Kind != kindCustomer) {
		named = append(named, channel.Identity{Kind: kindCustomer, Value: n.shop + ":" + who.customer})
	}
	if len(named) == 0 {
		n.fault(n.topic)
		return
	}
	for i := range named {
		each := event
		each.Key += ":" + named[i].Kind
		each.Author = &named[i]
		n.add(each)
	}
}

// uninstalled ends the connection. The shop's own times say nothing of when: the header does, else the time of receipt.
func (n *normaliser) uninstalled() {
	at := placed(n.triggered)
	if n.delivery == "" && at == 0 {
		n.fault("app/uninstalled")
		return
	}
	key := n.delivery
	if key == "" {
		key = strconv.FormatInt(at, 10)
	}
	n.add(channel.Event{Type: channel.TypeRevocation, SourceType: n.topic, Reason: "app_uninstalled", Key: key, Order: at})
}

func (n *normaliser) add(e channel.Event) {
	e.Account = n.shop
	n.result.Events = append(n.result.Events, e)
}

func (n *normaliser) unknown(kind string) { n.result.Unknown = append(n.result.Unknown, kind) }
func (n *normaliser) fault(class string)  { n.result.Faults = append(n.result.Faults, class) }

// key of a state: the same however it was told. It names the kind of identity and not whose it is: a hash of that
// could be guessed.
func key(kind, id string, order int64, identity string) string {
	return kind + ":" + id + ":" + strconv.FormatInt(order, 10) + ":" + identity
}

// claims are what a body itself says of the shop and of what it is. Every body's type has them.
type claims struct {
	GID         text `json:"admin_graphql_api_id"`
	MyShopify   text `json:"myshopify_domain"`
	ShopDomain  text `json:"shop_domain"`
	StatusURL   text `json:"order_status_url"`
	CheckoutURL text `json:"abandoned_checkout_url"`
}

// resources are what the bodies of topics name themselves, where they do.
var resources = map[string]string{
	"orders": "Order", "checkouts": "Checkout", "fulfillments": "Fulfillment", "customers": "Customer", "refunds": "Refund",
}

func (c *claims) says() *claims { return c }

// notOf tells that a body contradicts the headers, which nobody signed: it is another shop's, or no such thing.
// Where a header alone could end a connection or ask for an erasure, the body must say whose it is.
func (c *claims) notOf(shop, topic string) bool {
	switch topic {
	case "app/uninstalled":
		return string(c.MyShopify) != shop
	case "customers/data_request", "customers/redact", "shop/redact":
		return string(c.ShopDomain) != shop
	}
	kind, _, _ := strings.Cut(topic, "/")
	if resource, known := resources[kind]; known && c.GID != "" && !strings.HasPrefix(string(c.GID), "gid://shopify/"+resource+"/") {
		return true
	}
	for _, address := range []text{c.StatusURL, c.CheckoutURL} {
		u, err := url.Parse(string(address))
		if err == nil && shopDomain.MatchString(u.Hostname()) && u.Hostname() != shop { // a domain of the shop's own says nothing
			return true
		}
	}
	return string(c.MyShopify) != "" && string(c.MyShopify) != shop
}

// word keeps a word of Shopify's vocabulary; anything else is "other".
func word(s string) string {
	if s == "" || len(s) > 64 {
		return "other"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '/' && c != '-' {
			return "other"
		}
	}
	return s
}

// deliveryID is the first that looks like an id: the event's, else the webhook's.
func deliveryID(ids ...string) string {
	for _, s := range ids {
		if s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdefABCDEF-") == "" {
			return s
		}
	}
	return ""
}
