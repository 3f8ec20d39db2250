package ingress

import (
	"context"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// conversationKind is the kind of identity of a group conversation itself: what nobody in particular
// wrote in it lies under its own subject.
const conversationKind = "conversation"

// acts tells which events are an act of a person, who may become a subject by it. Opting out is none: the
// provider tells of it too, in a receipt, and who was erased since must not come back by that. A person who
// writes that word acts by the message.
func acts(e *channel.Event) bool {
	switch e.Type {
	case channel.TypeMessage, channel.TypeEdit, channel.TypeReaction:
		return true
	case channel.TypeConsent:
		return e.Consent != nil && e.Consent.Action == "opt_in"
	}
	return false
}

// knows tells which other events need somebody that is known already.
func knows(e *channel.Event) bool {
	switch e.Type {
	case channel.TypeReceipt, channel.TypeProfile, channel.TypeMembership:
		return true
	case channel.TypeConsent:
		return !acts(e)
	}
	return false
}

func (it *item) identity(i channel.Identity) seal.Identity {
	return seal.Identity{Workspace: it.Workspace, Kind: i.Kind, Value: i.Value}
}

// persons of an event: author and contact, where it has them. A group's own identity stands for both
// where nobody is named and there is content to seal.
func (it *item) persons() []seal.Identity {
	if it.whose == nil {
		it.whose = it.everybody()
	}
	return it.whose
}

func (it *item) everybody() (persons []seal.Identity) {
	e := &it.Event
	for _, who := range []*channel.Identity{e.Author, e.Contact} {
		if who != nil {
			persons = append(persons, it.identity(*who))
		}
	}
	if len(persons) == 0 && e.Content != nil && acts(e) {
		if group := it.group(); group != "" {
			persons = append(persons, it.identity(channel.Identity{Kind: conversationKind, Value: group}))
		}
	}
	return persons
}

// people are the answers of the registry to the questions of some items.
type people struct {
	acted map[act]seal.Subject
	known map[seal.Identity]seal.Subject
}

// act is a seal.Act that can be compared.
type act struct {
	identity seal.Identity
	at       int64
}

func (it *item) act(id seal.Identity) act {
	if it.SignedAt.IsZero() {
		return act{identity: id}
	}
	return act{id, it.SignedAt.UnixMicro()}
}

// of gives the subject of one of an item's persons.
func (p people) of(it *item, id seal.Identity) seal.Subject {
	if acts(&it.Event) {
		return p.acted[it.act(id)]
	}
	return p.known[id]
}

// questions of an item: who acted, and who is only looked up.
func (it *item) questions() (acted, known []seal.Identity) {
	switch {
	case acts(&it.Event):
		acted = it.persons()
	case knows(&it.Event):
		known = it.persons()
	}
	return acted, known
}

// valid keeps what no registry takes from failing the call that others share.
func valid(id seal.Identity) bool {
	return seal.ValidID(id.Workspace) && seal.ValidID(id.Kind) && seal.ValidValue(id.Value)
}

// ask the registry for everybody in items: one Acquire and one Find at most.
func (in *Ingress) ask(ctx context.Context, items []*item) (people, error) {
	p := people{}
	var askedActs []act
	var toAcquire []seal.Act
	var toFind []seal.Identity
	for _, it := range items {
		acted, known := it.questions()
		for _, id := range acted {
			a := it.act(id)
			if _, asked := p.acted[a]; !asked {
				if p.acted == nil {
					p.acted = map[act]seal.Subject{}
				}
				p.acted[a] = seal.Subject{}
				askedActs = append(askedActs, a)
				toAcquire = append(toAcquire, seal.Act{Identity: id, At: it.SignedAt})
			}
		}
		for _, id := range known {
			if _, asked := p.known[id]; !asked {
				if p.known == nil {
					p.known = map[seal.Identity]seal.Subject{}
				}
				p.known[id] = seal.Subject{}
				toFind = append(toFind, id)
			}
		}
	}
	if len(toAcquire) > 0 {
		subjects, err := in.Registry.Acquire(ctx, toAcquire)
		if err != nil {
			return people{}, err
		}
		for i, s := range subjects {
			p.acted[askedActs[i]] = s
		}
	}
	if len(toFind) > 0 {
		subjects, err := in.Registry.Find(ctx, toFind)
		if err != nil {
			return people{}, err
		}
		for i, s := range subjects {
			p.known[toFind[i]] = s
		}
	}
	return p, nil
}

// usable: something may be sealed for the subject.
func usable(s seal.Subject) bool {
	return s.Key != nil && (s.State == pb.SubjectState_SUBJECT_STATE_ACTIVE || s.State == pb.SubjectState_SUBJECT_STATE_RESTRICTED)
}

func erased(s seal.Subject) bool { return s.State == pb.SubjectState_SUBJECT_STATE_ERASED }

// messageTime is the time that a message's external id implies, where this channel's do.
func (in *Ingress) messageTime(externalID string) time.Time {
	if t, ok := in.Adapter.(channel.Timed); ok {
		return t.MessageTime(externalID)
	}
	return time.Time{}
}
