package erasure

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Tables is the Directory, kept from the compacted topics contacts and holders.
type Tables struct {
	contacts *bus.Table[*pb.ContactRecord]
	holders  *bus.Table[*pb.Holder]
}

// NewTables makes the tables; Run fills them.
func NewTables(b *bus.Bus) *Tables {
	return &Tables{
		contacts: bus.NewTable(b, bus.TableConfig[*pb.ContactRecord]{Topic: "contacts", Decode: func(v []byte) (*pb.ContactRecord, error) {
			r := &pb.ContactRecord{}
			return r, proto.Unmarshal(v, r)
		}}),
		holders: bus.NewTable(b, bus.TableConfig[*pb.Holder]{Topic: "holders", Decode: func(v []byte) (*pb.Holder, error) {
			h := &pb.Holder{}
			return h, proto.Unmarshal(v, h)
		}}),
	}
}

// Run keeps the tables until ctx ends.
func (t *Tables) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.contacts.Run(ctx) })
	g.Go(func() error { return t.holders.Run(ctx) })
	return g.Wait()
}

// Ready names the table that has not been read to its end.
func (t *Tables) Ready() error {
	if !t.contacts.Ready() || !t.holders.Ready() {
		return errors.New("contacts and holders are not read yet")
	}
	return nil
}

// Contact implements Directory.
func (t *Tables) Contact(id string) (*pb.ContactRecord, bool) { return t.contacts.Get(id) }

// Confirm implements Directory.
func (t *Tables) Confirm(ctx context.Context, since time.Time) error {
	return t.contacts.Confirm(ctx, since)
}

// Holders implements Directory: those that store anything of persons.
func (t *Tables) Holders() []string {
	var names []string
	for name, h := range t.holders.All {
		if len(h.Holdings) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
