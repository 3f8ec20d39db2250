package api

import (
	"context"
	"math"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Kinds of what shops tell.
const (
	kindOrder      = "order"
	kindCheckout   = "checkout"
	kindRefund     = "refund"
	kindFulfilment = "fulfilment"
)

// objectRow is an object of a shop as it is stored, not opened yet.
//
//bound:exempt what one answer shows
type objectRow struct {
	connection, kind, id, parent string
	order                        int64
	event                        string
	sealed                       sealedColumns
	opened                       pb.Commerce
	state                        string
	children                     []*objectRow
}

type listOrders struct {
	ID   string `path:"id" json:"-"`
	Kind string `query:"kind" json:"-"`
	endpointx.Paging
}

// listOrders gives a contact's orders or checkouts, the one that changed last first.
func (a *API) listOrders(ctx context.Context, req listOrders) (endpointx.Page[Order], error) {
	caller, _ := access.From(ctx)
	page := endpointx.Page[Order]{Items: []Order{}}
	kind := req.Kind
	if kind == "" {
		kind = kindOrder
	}
	if kind != kindOrder && kind != kindCheckout {
		return page, problem.Invalid(map[string]string{"kind": "must be order or checkout"})
	}
	before, beforeEvent := int64(math.MaxInt64), ""
	if err := req.Behind(&before, &beforeEvent); err != nil {
		return page, err
	}
	var rows []*objectRow
	err := a.DB.View(ctx, func(tx *sqldb.Tx) (err error) {
		page.NextCursor = ""
		if err := contactShown(ctx, tx, caller.WorkspaceID, req.ID); err != nil {
			return err
		}
		subjects, err := subjectsOf(ctx, tx, caller.WorkspaceID, req.ID)
		if err != nil {
			return err
		}
		if rows, err = queryObjects(ctx, tx, subjects, "c.kind = $1 AND (c.order_us, c.event_id) < ($2, $3)",
			"ORDER BY c.order_us DESC, c.event_id DESC LIMIT $4", kind, before, beforeEvent, req.Size()+1); err != nil {
			return err
		}
		if len(rows) > req.Size() {
			rows = rows[:req.Size()]
			last := rows[len(rows)-1]
			page.NextCursor = req.Next(last.order, last.event)
		}
		return attachChildren(ctx, tx, subjects, rows)
	})
	if err != nil {
		return page, err
	}
	o := &opening{workspace: caller.WorkspaceID}
	for _, row := range rows {
		row.ask(o)
		for _, child := range row.children {
			child.ask(o)
		}
	}
	if err := o.open(ctx, a.Seal, pb.Purpose_PURPOSE_CONVERSATION); err != nil {
		return page, err
	}
	for _, row := range rows {
		page.Items = append(page.Items, row.shown())
	}
	return page, nil
}

// subjectsOf a contact.
func subjectsOf(ctx context.Context, tx *sqldb.Tx, workspace, contact string) ([]string, error) {
	found, err := queryContacts(ctx, tx, "workspace_id = $1 AND id = $2", workspace, contact)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0].subjects, nil
}

// queryObjects reads what subjects have, once where several of them have it: the newest state. Args go before.
func queryObjects(ctx context.Context, tx *sqldb.Tx, subjects []string, condition, order string, args ...any) ([]*objectRow, error) {
	list, of := sqldb.In(len(args)+1, subjects)
	var found []*objectRow
	err := sqldb.Query(ctx, tx, `SELECT c.connection_id, c.kind, c.id, c.parent, c.order_us, c.event_id, c.subject_id, c.key_id, c.ciphertext
		FROM commerce c WHERE c.deleted = 0 AND c.subject_id IN (`+list+`) AND `+condition+`
		AND NOT EXISTS (SELECT 1 FROM commerce n WHERE n.subject_id IN (`+list+`) AND n.connection_id = c.connection_id AND n.kind = c.kind
		AND n.id = c.id AND (n.order_us, n.event_id) > (c.order_us, c.event_id)) `+order, append(args, of...), func(rows sqldb.Row) error {
		o := &objectRow{state: contentOpen}
		err := rows.Scan(&o.connection, &o.kind, &o.id, &o.parent, &o.order, &o.event, &o.sealed.subject, &o.sealed.key, &o.sealed.ciphertext)
		found = append(found, o)
		return err
	})
	return found, err
}

// attachChildren reads the refunds and fulfilments of orders, the oldest first.
func attachChildren(ctx context.Context, tx *sqldb.Tx, subjects []string, orders []*objectRow) error {
	type name struct{ connection, id string }
	of := map[name]*objectRow{}
	byConnection := map[string][]string{}
	for _, o := range orders {
		if o.kind == kindOrder {
			of[name{o.connection, o.id}] = o
			byConnection[o.connection] = append(byConnection[o.connection], o.id)
		}
	}
	for connection, ids := range byConnection {
		for _, chunk := range store.Chunks(ids) {
			list, args := sqldb.In(2, chunk)
			children, err := queryObjects(ctx, tx, subjects, "c.connection_id = $1 AND c.parent <> '' AND c.parent IN ("+list+")",
				"ORDER BY c.order_us, c.event_id", append([]any{connection}, args...)...)
			if err != nil {
				return err
			}
			for _, c := range children {
				o := of[name{c.connection, c.parent}]
				o.children = append(o.children, c)
			}
		}
	}
	return nil
}

func (o *objectRow) ask(opening *opening) {
	opening.add(o.sealed, pb.Category_CATEGORY_COMMERCE, seal.OriginCommerce(o.connection, o.kind, o.id, o.order), func(plain []byte, err error) {
		if err == nil {
			err = proto.Unmarshal(plain, &o.opened)
		}
		o.state = contentState(err)
	})
}

func (o *objectRow) shown() Order {
	c := &o.opened
	out := Order{
		ID: o.id, ConnectionID: o.connection, Kind: o.kind, Content: o.state, Number: c.GetNumber(), Status: c.GetStatus(),
		FinancialStatus: c.GetFinancialStatus(), FulfilmentStatus: c.GetFulfilmentStatus(), Currency: c.GetCurrency(), Total: c.GetTotal(),
		Lines: o.lines(), CustomerID: c.GetCustomerId(), Email: c.GetEmail(), Phone: c.GetPhone(), Note: c.GetNote(),
		Tags: append([]string{}, c.GetTags()...), URL: c.GetUrl(), CreatedAt: optionalTime(c.GetCreatedAtUs()), UpdatedAt: o.updatedAt(),
		Refunds: []Refund{}, Fulfilments: []Fulfilment{},
	}
	for _, child := range o.children {
		c := &child.opened
		switch child.kind {
		case kindRefund:
			out.Refunds = append(out.Refunds, Refund{
				ID: child.id, Content: child.state, Status: c.GetStatus(), Currency: c.GetCurrency(), Total: c.GetTotal(), Note: c.GetNote(),
				Lines: child.lines(), CreatedAt: optionalTime(c.GetCreatedAtUs()), UpdatedAt: child.updatedAt(),
			})
		case kindFulfilment:
			out.Fulfilments = append(out.Fulfilments, Fulfilment{
				ID: child.id, Content: child.state, Number: c.GetNumber(), Status: c.GetStatus(), ShipmentStatus: c.GetFulfilmentStatus(),
				TrackingNumber: c.GetTrackingNumber(), TrackingURL: c.GetTrackingUrl(), Lines: child.lines(),
				CreatedAt: optionalTime(c.GetCreatedAtUs()), UpdatedAt: child.updatedAt(),
			})
		}
	}
	return out
}

// updatedAt is the shop's time of the state, else the one that it is ordered by.
func (o *objectRow) updatedAt() string {
	if at := o.opened.GetUpdatedAtUs(); at != 0 {
		return timeText(at)
	}
	return timeText(o.order)
}

func (o *objectRow) lines() []OrderLine {
	lines := make([]OrderLine, 0, len(o.opened.GetLines()))
	for _, l := range o.opened.GetLines() {
		lines = append(lines, OrderLine{ID: l.GetId(), Title: l.GetTitle(), SKU: l.GetSku(), Quantity: l.GetQuantity(), Price: l.GetPrice()})
	}
	return lines
}
