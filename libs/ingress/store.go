package ingress

import (
	"bytes"
	"context"
	"errors"
	"time"

	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// errUnstored: the bucket did not take what came with a message. It is spooled with the message.
var errUnstored = errors.New("ingress: an attachment could not be stored")

// storeBudget is longer than a webhook's other budgets: who sends files along waits longer too.
const storeBudget = 10 * time.Second

// store keeps the items that came with a message in the bucket, sealed for its owner, before anybody is told of
// the message. Storing again changes nothing.
func (b *builder) store(ctx context.Context, event *pb.ChannelEvent) error {
	c := b.Event.Content
	if c == nil {
		return nil
	}
	for i, a := range c.Attachments {
		if a.Data == nil || i >= len(event.GetAttachments()) {
			continue
		}
		//bound:timeout storing an attachment that came with a message | {storeBudget} | spooled
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeBudget)
		stored, err := b.in.Bucket.Store(ctx, b.owner(), event.GetAttachments()[i], bytes.NewReader(a.Data))
		cancel()
		if err != nil {
			return errUnstored
		}
		event.Attachments[i] = stored
	}
	return nil
}

// commerce in the mesh's own words.
func commerce(c *channel.Commerce) *pb.Commerce {
	out := &pb.Commerce{
		Number: c.Number, Status: c.Status, FinancialStatus: c.FinancialStatus, FulfilmentStatus: c.FulfilmentStatus,
		Currency: c.Currency, Total: c.Total, CreatedAtUs: micros(c.CreatedAt), UpdatedAtUs: micros(c.UpdatedAt),
		Url: c.URL, CustomerId: c.CustomerID, Email: c.Email, Phone: c.Phone, Note: c.Note, Tags: c.Tags,
		TrackingNumber: c.TrackingNumber, TrackingUrl: c.TrackingURL, ApiVersion: c.APIVersion,
	}
	for _, l := range c.Lines {
		out.Lines = append(out.Lines, &pb.CommerceLine{Id: l.ID, Title: l.Title, Sku: l.SKU, Quantity: l.Quantity, Price: l.Price})
	}
	return out
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
