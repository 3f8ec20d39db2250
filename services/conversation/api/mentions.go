package api

import (
	"cmp"
	"slices"
	"strings"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// resolve writes into text, where people are mentioned, what they are called today. Someone who has no
// name here, or is shown nowhere, stays as the text has it: their name lies under no key but their own.
// Marks that do not fit the text are left out.
func resolve(text string, marks []*pb.Mention, persons people) (string, []Mention) {
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
		sender := persons.sender(mark.GetSubjectId())
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
