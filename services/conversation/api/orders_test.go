package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
)

// sold puts an object of a shop into the database.
func (h *house) sold(p human, workspace, kind, id, parent string, order int64, c *pb.Commerce) {
	h.Helper()
	h.insert("commerce", map[string]any{"subject_id": p.ID, "connection_id": connection, "kind": kind, "id": id, "workspace_id": workspace,
		"parent": parent, "order_us": order, "event_id": fmt.Sprint(kind, id, p.ID), "key_id": p.KeyID,
		"ciphertext": h.seal(p.Subject, pb.Category_CATEGORY_COMMERCE, seal.OriginCommerce(connection, kind, id, order), c)})
}

func TestOrdersOfAContact(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		stranger := h.person(others, "+41790000002", "Eve", 1)
		h.sold(ada, us, "order", "820982911946154508", "", 5_000_000, &pb.Commerce{Number: "#1001", Status: "open", FinancialStatus: "paid",
			Currency: "CHF", Total: "0.10", UpdatedAtUs: 5_000_000, CreatedAtUs: 1, Tags: []string{"new"},
			Lines: []*pb.CommerceLine{{Id: "18446744073709551615", Title: "boots", Quantity: 2, Price: "12345678901234567890.10"}}})
		h.sold(ada, us, "refund", "1", "820982911946154508", 7_000_000, &pb.Commerce{Status: "success", Currency: "CHF", Total: "0.05"})
		h.sold(ada, us, "fulfilment", "2", "820982911946154508", 6_000_000, &pb.Commerce{Status: "success", FulfilmentStatus: "delivered", TrackingNumber: "T1"})
		h.sold(ada, us, "checkout", "3", "", 9_000_000, &pb.Commerce{Status: "open", Currency: "CHF", Total: "1"})
		for i := range 4 {
			h.sold(ada, us, "order", fmt.Sprint(10+i), "", int64(i+1)*1_000_000, &pb.Commerce{})
		}
		h.sold(stranger, others, "order", "820982911946154508", "", 5_000_000, &pb.Commerce{})
		at := "/v1/contacts/" + ada.contact + "/orders"

		t.Run("newest change first, with what hangs on them", func(t *testing.T) {
			got := read[page[api.Order]](h.get(at))
			if len(got.Items) != 5 {
				t.Fatalf("%d orders", len(got.Items))
			}
			o := got.Items[0]
			if o.ID != "820982911946154508" || o.Total != "0.10" || o.Currency != "CHF" || o.Lines[0].ID != "18446744073709551615" ||
				o.Lines[0].Price != "12345678901234567890.10" || o.Content != "open" || o.Tags[0] != "new" {
				t.Errorf("shows %+v", o)
			}
			if len(o.Refunds) != 1 || o.Refunds[0].Total != "0.05" || len(o.Fulfilments) != 1 || o.Fulfilments[0].ShipmentStatus != "delivered" {
				t.Errorf("%+v %+v hang on it", o.Refunds, o.Fulfilments)
			}
		})
		t.Run("a page at a time", func(t *testing.T) {
			var ids []string
			next := ""
			for {
				got := read[page[api.Order]](h.get(at + "?limit=2" + next))
				for _, o := range got.Items {
					ids = append(ids, o.ID)
				}
				if got.NextCursor == "" {
					break
				}
				next = "&cursor=" + got.NextCursor
			}
			if fmt.Sprint(ids) != "[820982911946154508 13 12 11 10]" {
				t.Errorf("pages give %v", ids)
			}
		})
		t.Run("checkouts apart", func(t *testing.T) {
			got := read[page[api.Order]](h.get(at + "?kind=checkout"))
			if len(got.Items) != 1 || got.Items[0].Kind != "checkout" || got.Items[0].ID != "3" {
				t.Errorf("shows %+v", got.Items)
			}
			h.get(at+"?kind=refund").problem(http.StatusUnprocessableEntity, "invalid", "kind")
		})
		t.Run("once where two of the contact's subjects have it", func(t *testing.T) {
			mail := h.person(us, "+41790000003", "", 1)
			h.exec("UPDATE identities SET contact_id = $1 WHERE subject_id = $2", ada.contact, mail.ID)
			h.sold(mail, us, "order", "820982911946154508", "", 8_000_000, &pb.Commerce{FinancialStatus: "refunded"})
			got := read[page[api.Order]](h.get(at))
			if len(got.Items) != 5 || got.Items[0].FinancialStatus != "refunded" || len(got.Items[0].Refunds) != 1 {
				t.Errorf("shows %+v", got.Items)
			}
		})
		t.Run("of nobody else, and of no one who is gone", func(t *testing.T) {
			h.get("/v1/contacts/"+stranger.contact+"/orders").problem(http.StatusNotFound, "not_found")
			h.exec("UPDATE contacts SET frozen = 1 WHERE id = $1", ada.contact)
			h.get(at).problem(http.StatusGone, "gone")
		})
	})
}

func TestOrdersWaitForTheRegistry(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		h.sold(ada, us, "order", "1", "", 1_000_000, &pb.Commerce{})
		h.registry.FailWith(errors.New("away"))
		h.get("/v1/contacts/"+ada.contact+"/orders").problem(http.StatusServiceUnavailable, "unavailable")
	})
}
