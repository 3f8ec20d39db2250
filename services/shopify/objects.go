package shopify

import (
	"slices"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// order as webhooks tell it and the Admin API answers it
// (https://shopify.dev/docs/api/admin-rest/latest/resources/order).
type order struct {
	claims
	ID                id           `json:"id"`
	Name              text         `json:"name"`
	Email             text         `json:"email"`
	ContactEmail      text         `json:"contact_email"`
	Phone             text         `json:"phone"`
	Locale            text         `json:"customer_locale"`
	Customer          customer     `json:"customer"`
	CreatedAt         moment       `json:"created_at"`
	UpdatedAt         moment       `json:"updated_at"`
	ClosedAt          moment       `json:"closed_at"`
	CancelledAt       moment       `json:"cancelled_at"`
	Currency          text         `json:"currency"`
	TotalPrice        amount       `json:"total_price"`
	FinancialStatus   text         `json:"financial_status"`
	FulfillmentStatus text         `json:"fulfillment_status"`
	Note              text         `json:"note"`
	Tags              text         `json:"tags"`
	Lines             []line       `json:"line_items"`
	Fulfillments      []fulfilment `json:"fulfillments"`
	Refunds           []refund     `json:"refunds"`
}

// checkout as checkouts/create and checkouts/update tell it: a cart whose owner may have said who they are.
type checkout struct {
	claims
	ID          id       `json:"id"`
	Name        text     `json:"name"`
	Email       text     `json:"email"`
	Phone       text     `json:"phone"`
	Locale      text     `json:"customer_locale"`
	Customer    customer `json:"customer"`
	CreatedAt   moment   `json:"created_at"`
	UpdatedAt   moment   `json:"updated_at"`
	ClosedAt    moment   `json:"closed_at"`
	CompletedAt moment   `json:"completed_at"`
	Currency    text     `json:"currency"`
	TotalPrice  amount   `json:"total_price"`
	Note        text     `json:"note"`
	Lines       []line   `json:"line_items"`
}

// line of an order, a checkout (which has a key and no id) or a fulfilment.
type line struct {
	ID       id     `json:"id"`
	Key      text   `json:"key"`
	Title    text   `json:"title"`
	SKU      text   `json:"sku"`
	Quantity count  `json:"quantity"`
	Price    amount `json:"price"`
}

// refund (https://shopify.dev/docs/api/admin-rest/latest/resources/refund).
type refund struct {
	ID          id     `json:"id"`
	OrderID     id     `json:"order_id"`
	CreatedAt   moment `json:"created_at"`
	ProcessedAt moment `json:"processed_at"`
	Note        text   `json:"note"`
	Lines       []struct {
		ID       id    `json:"id"`
		Quantity count `json:"quantity"`
		Line     line  `json:"line_item"`
	} `json:"refund_line_items"`
	Transactions []struct {
		Kind        text   `json:"kind"`
		Status      text   `json:"status"`
		Amount      amount `json:"amount"`
		Currency    text   `json:"currency"`
		CreatedAt   moment `json:"created_at"`
		ProcessedAt moment `json:"processed_at"`
	} `json:"transactions"`
}

// fulfilment (https://shopify.dev/docs/api/admin-rest/latest/resources/fulfillment).
type fulfilment struct {
	claims
	ID             id     `json:"id"`
	OrderID        id     `json:"order_id"`
	Name           text   `json:"name"`
	Status         text   `json:"status"`
	ShipmentStatus text   `json:"shipment_status"`
	Email          text   `json:"email"`
	CreatedAt      moment `json:"created_at"`
	UpdatedAt      moment `json:"updated_at"`
	TrackingNumber text   `json:"tracking_number"`
	TrackingURL    text   `json:"tracking_url"`
	Lines          []line `json:"line_items"`
}

// state is an object as it stands at a time of the shop's.
type state struct {
	channel.Commerce
	// placed is when the person acted; zero where it is not theirs to act.
	placed time.Time
	order  int64
}

func (o *order) state() state {
	s := state{placed: first(o.CreatedAt.Time, o.UpdatedAt.Time), Commerce: channel.Commerce{
		Kind: "order", ID: string(o.ID), Number: string(o.Name), Status: "open",
		FinancialStatus: string(o.FinancialStatus), FulfilmentStatus: string(o.FulfillmentStatus), Note: string(o.Note),
		Tags: tags(o.Tags), URL: string(o.StatusURL), Lines: lines(o.Lines), CreatedAt: o.CreatedAt.Time, UpdatedAt: o.UpdatedAt.Time,
	}}
	ended := step{0, 3}
	switch {
	case !o.CancelledAt.IsZero():
		s.Status, ended.at = "cancelled", 2
	case !o.ClosedAt.IsZero():
		s.Status, ended.at = "closed", 1
	}
	s.price(o.TotalPrice, o.Currency)
	s.order = placed(o.UpdatedAt.Time, ended, rank(o.FinancialStatus, "pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "voided"),
		rank(o.FulfillmentStatus, "partial", "fulfilled", "restocked"), several(len(o.Refunds)+len(o.Fulfillments)))
	return s
}

func (c *checkout) state() state {
	s := state{placed: first(c.CreatedAt.Time, c.UpdatedAt.Time), Commerce: channel.Commerce{
		Kind: "checkout", ID: string(c.ID), Number: string(c.Name), Status: "open", Note: string(c.Note), URL: string(c.CheckoutURL),
		Lines: lines(c.Lines), CreatedAt: c.CreatedAt.Time, UpdatedAt: c.UpdatedAt.Time,
	}}
	ended := step{0, 2}
	if !c.CompletedAt.IsZero() || !c.ClosedAt.IsZero() {
		s.Status, ended.at = "closed", 1
	}
	s.price(c.TotalPrice, c.Currency)
	s.order = placed(c.UpdatedAt.Time, ended)
	return s
}

func (f *fulfilment) state() state {
	s := state{Commerce: channel.Commerce{
		Kind: "fulfilment", ID: string(f.ID), Parent: string(f.OrderID), Number: string(f.Name), Status: string(f.Status),
		FulfilmentStatus: string(f.ShipmentStatus), TrackingNumber: string(f.TrackingNumber), TrackingURL: string(f.TrackingURL),
		Lines: lines(f.Lines), CreatedAt: f.CreatedAt.Time, UpdatedAt: f.UpdatedAt.Time,
	}}
	s.order = placed(f.UpdatedAt.Time, rank(f.Status, "pending", "open", "success", "cancelled", "error", "failure"),
		rank(f.ShipmentStatus, "label_printed", "label_purchased", "ready_for_pickup", "confirmed", "in_transit", "out_for_delivery", "attempted_delivery", "delivered", "failure"))
	return s
}

// state of a refund: its total is what its transactions give back, its time the newest that stands in it.
func (r *refund) state() state {
	s := state{Commerce: channel.Commerce{
		Kind: "refund", ID: string(r.ID), Parent: string(r.OrderID), Note: string(r.Note), CreatedAt: r.CreatedAt.Time,
	}}
	at := later(r.CreatedAt.Time, r.ProcessedAt.Time)
	var given []amount
	var currency text
	words := []string{"error", "failure", "pending", "success"} // what counts of several, the last the most
	best, all := rank("", words...), 0
	for _, t := range r.Transactions {
		at = later(at, t.CreatedAt.Time, t.ProcessedAt.Time)
		if t.Kind != "refund" {
			continue
		}
		if t.Amount != "" && t.Status != "failure" && t.Status != "error" {
			given, currency = append(given, t.Amount), t.Currency
		}
		if n := rank(t.Status, words...); n.at > best.at {
			best, s.Status = n, string(t.Status)
		}
		all++
	}
	if len(given) > 0 {
		s.price(amount(sum(given)), currency)
	}
	for _, l := range r.Lines {
		s.Lines = append(s.Lines, channel.CommerceLine{
			ID: string(l.ID), Title: string(l.Line.Title), SKU: string(l.Line.SKU), Quantity: int64(l.Quantity), Price: string(l.Line.Price),
		})
	}
	s.UpdatedAt = at
	s.order = placed(at, best, several(all))
	return s
}

// price sets the total; an amount without its currency says nothing.
func (s *state) price(total amount, currency text) {
	if c := currency.currency(); c != "" {
		s.Total, s.Currency = string(total), c
	}
}

func lines(all []line) (out []channel.CommerceLine) {
	for _, l := range all {
		lineID := string(l.ID)
		if lineID == "" {
			lineID = string(l.Key)
		}
		out = append(out, channel.CommerceLine{ID: lineID, Title: string(l.Title), SKU: string(l.SKU), Quantity: int64(l.Quantity), Price: string(l.Price)})
	}
	return out
}

// tags come in one text, with commas.
func tags(all text) (out []string) {
	for _, tag := range strings.Split(string(all), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}

// placed is where a state stands among an object's others, in microseconds. Shopify's times are whole seconds, in
// which an order may be made, paid and fulfilled: within one, the state that is further on counts, and of those that are
// as far on the one that was seen last (see normaliser.seen). steps are how far, the weightiest first.
func placed(at time.Time, steps ...step) int64 {
	if at.IsZero() {
		return 0
	}
	us := at.UnixMicro()
	if us%time.Second.Microseconds() != 0 {
		return us
	}
	var within int64
	for _, s := range steps {
		within = within*int64(s.of) + int64(min(s.at, s.of-1))
	}
	return us + within*moments
}

// moments of a second, by which states that are as far on are told apart: a second has room for 1,536 steps of so many.
const moments = 651

// step of a life, and of how many.
type step struct{ at, of int }

// several are up to 15 things that are counted.
func several(n int) step { return step{n, 16} }

// rank of a word among words: from 1; of any other 0.
func rank(word text, words ...string) step {
	return step{slices.Index(words, string(word)) + 1, len(words) + 1}
}

// first of times that is given.
func first(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

func later(times ...time.Time) (t time.Time) {
	for _, other := range times {
		if other.After(t) {
			t = other
		}
	}
	return t
}
