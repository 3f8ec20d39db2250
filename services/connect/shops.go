package connect

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

const (
	// setWithin bounds setting something at a shop while somebody waits.
	//bound:timeout setting an order's note or a customer's tags at a shop | {} | 504: it may have been set; to set it again does no harm
	setWithin = 5 * time.Second
	// Shopify's own limits: for a note that of the cart that it comes from, as the Admin API tells none
	// (https://shopify.dev/changelog/note-length-is-now-validated-5000-char); for tags those of customers
	// (https://shopify.dev/docs/api/admin-rest/latest/resources/customer).
	//bound:limit characters of an order's note | {} | 422
	maxNote = 5000
	//bound:limit tags of a customer | {} | 422
	maxTags = 250
	//bound:limit characters of a customer's tag | {} | 422
	maxTag = 255
)

type orderNote struct {
	ConnectionID string  `path:"id" json:"-"`
	OrderID      string  `path:"order_id" json:"-"`
	Text         *string `json:"text"`

	order uint64
}

func (r *orderNote) Validate() error {
	faults := faults{}
	r.order = faults.shopID("order_id", r.OrderID)
	if r.Text == nil {
		faults.add("text", "is required; empty takes the note away")
	} else {
		faults.text("text", strings.NewReplacer("\r", " ", "\n", " ", "\t", " ").Replace(*r.Text), maxNote) // a note has lines
	}
	return faults.problem()
}

// noted is what the shop has then.
type noted struct {
	Text string `json:"text"`
}

// setOrderNote has a shop set an order's note. Nothing is kept here: the shop tells of the change as of any other.
func (s *service) setOrderNote(ctx context.Context, req orderNote) (has noted, err error) {
	err = s.atShop(ctx, req.ConnectionID, "order", func(ctx context.Context, shop provider.Shop, app provider.App, a provider.Account) (err error) {
		has.Text, err = shop.SetOrderNote(ctx, app, a, req.order, *req.Text)
		return err
	})
	return has, err
}

type customerTags struct {
	ConnectionID string   `path:"id" json:"-"`
	CustomerID   string   `path:"customer_id" json:"-"`
	Tags         []string `json:"tags"`

	customer uint64
}

func (r *customerTags) Validate() error {
	faults := faults{}
	r.customer = faults.shopID("customer_id", r.CustomerID)
	switch {
	case r.Tags == nil:
		faults.add("tags", "is required; an empty list takes all away")
	case len(r.Tags) > maxTags:
		faults.add("tags", fmt.Sprintf("must be %d at most", maxTags))
	default:
		for i := range r.Tags {
			field := "tags/" + strconv.Itoa(i)
			r.Tags[i] = strings.TrimSpace(r.Tags[i])
			faults.text(field, r.Tags[i], maxTag)
			switch {
			case r.Tags[i] == "":
				faults.add(field, "is empty")
			case strings.Contains(r.Tags[i], ","):
				faults.add(field, "must have no comma: the shop parts tags at commas")
			}
		}
	}
	return faults.problem()
}

// tagged is what the shop has then.
type tagged struct {
	Tags []string `json:"tags"`
}

// setCustomerTags has a shop set all tags of a customer. Nothing is kept here.
func (s *service) setCustomerTags(ctx context.Context, req customerTags) (has tagged, err error) {
	err = s.atShop(ctx, req.ConnectionID, "customer", func(ctx context.Context, shop provider.Shop, app provider.App, a provider.Account) (err error) {
		has.Tags, err = shop.SetCustomerTags(ctx, app, a, req.customer, req.Tags)
		return err
	})
	return has, err
}

// shopID is a shop's id of something: 64 bits, written in one way alone.
func (f faults) shopID(field, value string) uint64 {
	id, err := strconv.ParseUint(value, 10, 64)
	if err != nil || id == 0 || strconv.FormatUint(id, 10) != value {
		f.add(field, "must be the shop's id, a whole number of 64 bits")
	}
	return id
}

// atShop has a connection's shop set something of what; once: who is told that it may not have been done repeats it.
func (s *service) atShop(ctx context.Context, id, what string, set func(context.Context, provider.Shop, provider.App, provider.Account) error) error {
	var r connectionRow
	if err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) { r, err = readConnection(ctx, tx, id); return err }); err != nil {
		return err
	}
	shop, ok := s.providers.Of(r.channel, r.settings).(provider.Shop)
	if !ok {
		return endpointx.Invalid(map[string]string{"id": "is not a shop's connection"})
	}
	if err := r.usable(); err != nil {
		return err
	}
	app, account, err := s.openAccount(ctx, r)
	if err != nil {
		return err
	}
	//bound:exempt setWithin says it
	within, cancel := context.WithTimeout(ctx, setWithin)
	defer cancel()
	err = set(within, shop, app, account)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case provider.Void(err):
		return s.turnedAway(ctx, r, provider.Reason(err))
	}
	return shopProblem(what, err)
}

// usable is a problem where a connection's credentials are of no use.
func (r *connectionRow) usable() error {
	switch r.status {
	case active:
		return nil
	case reauthorise:
		return conflict("reauthorise", "the shop takes the credentials no more: give new ones, or connect it again")
	}
	return conflict("disconnected", "this account is not connected: connect it again")
}

func conflict(code, detail string) *endpointx.Problem {
	return &endpointx.Problem{Status: http.StatusConflict, Code: code, Title: "The connection can't be used for this", Detail: detail}
}

// turnedAway notes that a provider does not take the credentials that a row had when it was read. Newer ones may be there.
func (s *service) turnedAway(ctx context.Context, had connectionRow, why string) error {
	var r connectionRow
	changed := false
	err := s.db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
		changed = false
		if r, err = lockConnection(ctx, tx, had.id); err != nil || r.status != active || r.authorisedAt != had.authorisedAt {
			return err
		}
		now := s.now()
		r.void(why, now)
		changed = true
		return r.write(ctx, tx)
	})
	if err != nil {
		return err
	}
	if changed {
		s.log.InfoContext(ctx, "connection's credentials are void", "connection_id", r.id, "reason", why, "outcome", reauthorise)
		s.relay.flush(ctx)
	}
	if err := r.usable(); err != nil {
		return err
	}
	return endpointx.Unavailable("the shop, whose credentials were renewed meanwhile,")
}

// shopProblem tells, in words of ours alone, why a shop did not set something of what: its own may quote what it was given.
func shopProblem(what string, err error) error {
	why := provider.Reason(err)
	switch why {
	case "scope_missing":
		return conflict(why, "the shop has not granted this: connect it again, with the scopes write_orders and write_customers")
	case "http_403":
		return conflict("not_allowed", "the shop does not let the app do this")
	case "http_404":
		return &endpointx.Problem{Status: http.StatusNotFound, Code: "unknown_" + what, Title: "Not found", Detail: "the shop has no such " + what}
	case "http_400", "http_422":
		return &endpointx.Problem{Status: http.StatusUnprocessableEntity, Code: "refused", Title: "The shop refuses this", Detail: sentence(why)}
	case "http_429":
		return &endpointx.Problem{Status: http.StatusTooManyRequests, Code: "too_many_requests", Title: "Too many requests",
			Detail: sentence(why), RetryAfter: max(time.Second, provider.RetryAfter(err))}
	case "timeout":
		return &endpointx.Problem{Status: http.StatusGatewayTimeout, Code: why, Title: "This took too long", Detail: sentence(why), RetryAfter: time.Second}
	}
	return &endpointx.Problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Title: "Not available for now", Detail: sentence(why), RetryAfter: time.Second}
}
