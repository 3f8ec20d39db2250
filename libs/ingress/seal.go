package ingress

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// outcome of sealing an item: a message to publish, or none because it is dropped, or a fault of the data.
type outcome struct {
	msg     bus.Message
	copies  []bus.Message // of msg, for readers of few events
	author  string        // whose profile copies ask for
	typ     channel.Type
	dropped bool // nobody knows the person
	erased  bool // msg holds the id alone
	fault   string
}

// seal makes the messages of items, once answer has said who their people are. An error is the registry's or the
// bucket's: no message was made.
func (in *Ingress) seal(ctx context.Context, items []item, answer func(context.Context, people) error) ([]outcome, error) {
	outcomes := make([]outcome, len(items))
	var sound []*item
	for i := range items {
		outcomes[i].typ = items[i].Event.Type
		if outcomes[i].fault = items[i].faulty(); outcomes[i].fault == "" {
			sound = append(sound, &items[i])
		}
	}
	p := peopleOf(sound)
	if err := answer(ctx, p); err != nil {
		return nil, err
	}
	for i := range items {
		if outcomes[i].fault == "" {
			var err error
			if outcomes[i], err = in.sealOne(ctx, &items[i], p); err != nil {
				return nil, err
			}
		}
	}
	return outcomes, nil
}

// faulty names what makes an event impossible to seal before anybody is asked; "" where nothing does.
func (it *item) faulty() string {
	if it.Made != nil {
		return ""
	}
	e := &it.Event
	if _, ok := eventTypes[e.Type]; !ok {
		return "unknown_type"
	}
	if e.Key == "" {
		return "no_key"
	}
	switch e.Type {
	case channel.TypeMessage:
		if e.ExternalID == "" {
			return "no_external_id"
		}
	case channel.TypeEdit, channel.TypeDeletion, channel.TypeReaction:
		if e.Target == "" {
			return "no_target"
		}
	case channel.TypeReceipt:
		if e.Receipt == nil {
			return "no_receipt"
		}
	case channel.TypeCommerce:
		if e.Commerce == nil || e.Commerce.Kind == "" || e.Commerce.ID == "" {
			return "no_commerce"
		}
		if e.Order <= 0 { // the newest state counts, and only the shop knows which that is
			return "no_order"
		}
	}
	persons := it.persons()
	for _, id := range persons {
		if !valid(id) {
			return "invalid_identity"
		}
	}
	if len(persons) == 0 && (e.Content != nil || e.Type == channel.TypeReaction || e.Type == channel.TypeCommerce) {
		return "nobody"
	}
	return ""
}

func (in *Ingress) sealOne(ctx context.Context, it *item, p people) (outcome, error) {
	o := outcome{typ: it.Event.Type}
	if it.Made != nil {
		return in.remade(it, o), nil
	}
	b := builder{item: it, in: in}
	for _, id := range it.persons() {
		s := p.of(it, id)
		switch {
		case erased(s):
			o.erased = true
		case usable(s):
			b.subjects = append(b.subjects, s)
		case !acts(&it.Event):
			if knows(&it.Event) {
				o.dropped = true
			}
			b.subjects = append(b.subjects, seal.Subject{})
		default:
			o.fault = "subject_state"
		}
	}
	if o.dropped || o.fault != "" {
		return o, nil
	}
	if o.erased {
		return in.addressed(it, b.erased(), o), nil
	}
	event := b.event()
	if event == nil {
		o.fault = "unsealable"
		return o, nil
	}
	if err := b.store(ctx, event); err != nil {
		return o, err
	}
	return in.addressed(it, event, o), nil
}

// remade makes the message of an event that is sealed already.
func (in *Ingress) remade(it *item, o outcome) outcome {
	made := &pb.ChannelEvent{}
	if err := proto.Unmarshal(it.Made, made); err != nil {
		o.fault = "undecodable"
		return o
	}
	return in.addressed(it, made, o)
}

// addressed makes the message of an event.
func (in *Ingress) addressed(it *item, event *pb.ChannelEvent, o outcome) outcome {
	value, err := proto.Marshal(event)
	if err != nil {
		o.fault = "invalid_text" // an id that is not UTF-8
		return o
	}
	if len(value) > bus.MaxValueBytes {
		o.fault = "too_large"
		return o
	}
	o.msg = inbound.Message(event, value, it.Trace)
	fetch := false
	if in.fetches != nil {
		fetch, o.author = in.fetches.wanted(event)
	}
	o.copies = inbound.Copies(event, o.msg, fetch)
	return o
}
