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
	case channel.TypeCommerce: // ordering is; refunding and fulfilling the order is the shop's
		return e.Commerce != nil && e.Commerce.Parent == ""
	case channel.TypeConsent:
		return e.Consent != nil && e.Consent.Action == "opt_in"
	}
	return false
}

// knows tells which other events need somebody that is known already.
func knows(e *channel.Event) bool {
	switch e.Type {
	case channel.TypeReceipt, channel.TypeProfile, channel.TypeMembership, channel.TypePrivacy:
		return true
	case channel.TypeConsent, channel.TypeCommerce:
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

func (it *item) everybody() []seal.Identity {
	e := &it.Event
	persons := make([]seal.Identity, 0, 2)
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

// people are the answers of the registry to the questions of some items. They are few, so nothing is kept in maps.
type people struct {
	acted []answered[act]
	known []answered[seal.Identity]
}

type answered[Q comparable] struct {
	question Q
	subject  seal.Subject
}

// inquire adds a question, once.
func inquire[Q comparable](questions []answered[Q], question Q) []answered[Q] {
	if answer(questions, question) != nil {
		return questions
	}
	return append(questions, answered[Q]{question: question})
}

func answer[Q comparable](questions []answered[Q], question Q) *seal.Subject {
	for i := range questions {
		if questions[i].question == question {
			return &questions[i].subject
		}
	}
	return nil
}

// act is a seal.Act that can be compared.
type act struct {
	identity seal.Identity
	at       int64
}

// time is when it was; zero where nobody signed that.
func (a act) time() time.Time {
	if a.at == 0 {
		return time.Time{}
	}
	return time.UnixMicro(a.at)
}

func (it *item) act(id seal.Identity) act {
	if it.SignedAt.IsZero() {
		return act{identity: id}
	}
	return act{id, it.SignedAt.UnixMicro()}
}

// of gives the subject of one of an item's persons.
func (p people) of(it *item, id seal.Identity) seal.Subject {
	found := answer(p.known, id)
	if acts(&it.Event) {
		found = answer(p.acted, it.act(id))
	}
	if found == nil {
		return seal.Subject{}
	}
	return *found
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

// peopleOf items, of whom nothing is known yet.
func peopleOf(items []*item) (p people) {
	for _, it := range items {
		acted, known := it.questions()
		for _, id := range acted {
			p.acted = inquire(p.acted, it.act(id))
		}
		for _, id := range known {
			p.known = inquire(p.known, id)
		}
	}
	return p
}

func (p people) acts() []seal.Act {
	acts := make([]seal.Act, len(p.acted))
	for i, a := range p.acted {
		acts[i] = seal.Act{Identity: a.question.identity, At: a.question.time()}
	}
	return acts
}

func told[Q comparable](questions []answered[Q], subjects []seal.Subject) {
	for i, s := range subjects {
		questions[i].subject = s
	}
}

// remembered answers about people if the registry need not be asked about any of them.
func (in *Ingress) remembered(p people) bool {
	questions := p.acts()
	for _, k := range p.known {
		questions = append(questions, seal.Act{Identity: k.question})
	}
	subjects, ok := in.Registry.Cached(questions)
	if ok {
		told(p.acted, subjects[:len(p.acted)])
		told(p.known, subjects[len(p.acted):])
	}
	return ok
}

// answer about people, whom the registry is asked for: by one Acquire and one Find at most.
func (in *Ingress) answer(ctx context.Context, p people) error {
	if len(p.acted) > 0 {
		subjects, err := in.Registry.Acquire(ctx, p.acts())
		if err != nil {
			return err
		}
		told(p.acted, subjects)
	}
	if len(p.known) > 0 {
		ids := make([]seal.Identity, len(p.known))
		for i, k := range p.known {
			ids[i] = k.question
		}
		subjects, err := in.Registry.Find(ctx, ids)
		if err != nil {
			return err
		}
		told(p.known, subjects)
	}
	return nil
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
