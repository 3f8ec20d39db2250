package api

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// maxMentioned identities are looked up for one page; whoever else it mentions stays as the text has them.
const maxMentioned = 500

// mentioned are the subjects of who is mentioned, by identity; nobody's is empty.
type mentioned map[seal.Identity]string

func (o *opening) identity(m *pb.Mention) seal.Identity {
	return seal.Identity{Workspace: o.workspace, Kind: m.GetIdentityKind(), Value: m.GetIdentityValue()}
}

// findMentioned asks the registry, once, who has the identities that opened messages mention.
func (a *API) findMentioned(ctx context.Context, o *opening, rows []*messageRow) (mentioned, error) {
	found := mentioned{}
	var asked []seal.Identity
	for _, m := range rows {
		for _, mark := range m.text.GetMentions() {
			id := o.identity(mark)
			_, known := found[id]
			if known || len(asked) == maxMentioned || !seal.ValidID(id.Kind) || !seal.ValidValue(id.Value) {
				continue
			}
			found[id] = ""
			asked = append(asked, id)
		}
	}
	if len(asked) == 0 {
		return found, nil
	}
	subjects, err := a.Seal.Find(ctx, asked)
	if err != nil {
		return nil, registryError(ctx, err)
	}
	for i, s := range subjects {
		found[asked[i]] = s.ID
	}
	return found, nil
}

// nameMentioned reads and opens the names of those who are only mentioned.
func (a *API) nameMentioned(ctx context.Context, o *opening, purpose pb.Purpose, found mentioned, persons people) error {
	var subjects []string
	for _, id := range found {
		if id != "" && persons[id] == nil {
			subjects = append(subjects, id)
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	slices.Sort(subjects)
	if err := a.DB.View(ctx, func(tx *sqldb.Tx) error { return persons.load(ctx, tx, subjects) }); err != nil {
		return err
	}
	persons.ask(o, subjects)
	return o.open(ctx, a.Seal, purpose)
}

// resolve writes into text, where people are mentioned, what they are called today. Someone who has no
// name here, or is shown nowhere, stays as the text has it: their name lies under no key but their own.
// Marks that do not fit the text are left out.
func resolve(text string, marks []*pb.Mention, subject func(*pb.Mention) string, persons people) (string, []Mention) {
	mentions := []Mention{}
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b *pb.Mention) int { return cmp.Compare(a.GetStart(), b.GetStart()) })
	var b strings.Builder
	done := 0
	for _, mark := range marks {
		start, end := int(mark.GetStart()), int(mark.GetStart())+int(mark.GetLength())
		if start < done || end < start || end > len(text) {
			continue
		}
		b.WriteString(text[done:start])
		words := text[start:end]
		sender := persons.sender(subject(mark))
		if sender.Name != "" {
			words = "@" + sender.Name
		}
		mentions = append(mentions, Mention{Start: b.Len(), Length: len(words), ContactID: optional(sender.ContactID)})
		b.WriteString(words)
		done = end
	}
	b.WriteString(text[done:])
	return b.String(), mentions
}
