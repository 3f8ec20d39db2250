package api

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"tributary.dev/libs/access"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/phone"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

//bound:exempt what one answer shows
type contactRow struct {
	id       string
	created  int64
	subjects []string
}

type listContacts struct {
	IdentityKind *string `query:"identity_kind" json:"-"`
	Identity     *string `query:"identity" json:"-"`
	endpointx.Paging
}

func (a *API) listContacts(ctx context.Context, req listContacts) (endpointx.Page[Contact], error) {
	caller, _ := access.From(ctx)
	page := endpointx.Page[Contact]{Items: []Contact{}}
	before, beforeID := int64(math.MaxInt64), ""
	if err := req.Behind(&before, &beforeID); err != nil {
		return page, err
	}
	condition := "workspace_id = $1 AND frozen = 0 AND (created_us, id) < ($2, $3)"
	args := []any{caller.WorkspaceID, before, beforeID, req.Size() + 1}
	if req.IdentityKind != nil || req.Identity != nil {
		subject, err := a.findIdentity(ctx, caller.WorkspaceID, req.IdentityKind, req.Identity)
		if err != nil || subject == "" {
			return page, err
		}
		condition += " AND id IN (SELECT i.contact_id FROM identities i WHERE i.subject_id = $5)"
		args = append(args, subject)
	}
	contacts, err := a.viewContacts(ctx, caller.WorkspaceID, func(tx *sqldb.Tx) ([]*contactRow, error) {
		page.NextCursor = ""
		rows, err := queryContacts(ctx, tx, condition+" ORDER BY created_us DESC, id DESC LIMIT $4", args...)
		if err != nil || len(rows) <= req.Size() {
			return rows, err
		}
		rows = rows[:req.Size()]
		last := rows[len(rows)-1]
		page.NextCursor = req.Next(last.created, last.id)
		return rows, nil
	})
	page.Items = append(page.Items, contacts...)
	return page, err
}

// findIdentity asks the registry whose an identity is; it alone can tell. Empty where nobody has it.
func (a *API) findIdentity(ctx context.Context, workspace string, kind, value *string) (subject string, err error) {
	if kind == nil || value == nil {
		missing := map[bool]string{true: "identity_kind", false: "identity"}[kind == nil]
		return "", problem.Invalid(map[string]string{missing: "is needed: identity_kind and identity go together"})
	}
	if kinds := identityKinds(); !slices.Contains(kinds, *kind) {
		return "", problem.Invalid(map[string]string{"identity_kind": "must be one of " + strings.Join(kinds, ", ")})
	}
	normal, ok := normalIdentity(*kind, *value)
	if !ok {
		return "", problem.Invalid(map[string]string{"identity": "has not the form of this kind"})
	}
	found, err := a.Seal.Find(ctx, []seal.Identity{{Workspace: workspace, Kind: *kind, Value: normal}})
	if err != nil {
		return "", registryError(ctx, err)
	}
	return found[0].ID, nil
}

// identityKinds are those of the channels, and WhatsApp's, which goes over the SMS channel.
func identityKinds() []string {
	kinds := []string{"whatsapp"}
	for _, name := range channel.Names() {
		f, _ := channel.Lookup(name)
		kinds = append(kinds, f.IdentityKind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// normalIdentity writes an identity as its channel does, so that the registry knows it again.
func normalIdentity(kind, value string) (normal string, ok bool) {
	value = strings.TrimSpace(value)
	switch kind {
	case "email":
		return strings.ToLower(value), strings.Contains(value, "@") && seal.ValidValue(value)
	case "phone":
		if shortCode.MatchString(value) {
			return value, true
		}
		return phone.E164(typed(value))
	case "whatsapp":
		number, ok := phone.E164(typed(strings.TrimPrefix(value, "whatsapp:")))
		return "whatsapp:" + number, ok
	case "shopify_customer":
		shop, customer, found := strings.Cut(value, ":")
		return value, found && shop != "" && customer != "" && seal.ValidValue(value)
	case "slack_user":
		team, user, found := strings.Cut(value, ":")
		return value, found && team != "" && user != "" && seal.ValidValue(value)
	}
	return value, seal.ValidValue(value) // a channel's own ids have no other form
}

// typed is a telephone number as people and their programs write them, in the characters that phone.E164 knows.
func typed(number string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '/' || unicode.Is(unicode.Zs, r):
			return ' '
		case unicode.Is(unicode.Pd, r):
			return '-'
		}
		return r
	}, strings.TrimPrefix(number, "tel:"))
}

var shortCode = regexp.MustCompile(`^[0-9]{3,8}$`)

func (a *API) getContact(ctx context.Context, req byID) (Contact, error) {
	caller, _ := access.From(ctx)
	found, err := a.viewContacts(ctx, caller.WorkspaceID, func(tx *sqldb.Tx) ([]*contactRow, error) {
		if err := contactShown(ctx, tx, caller.WorkspaceID, req.ID); err != nil {
			return nil, err
		}
		return queryContacts(ctx, tx, "workspace_id = $1 AND id = $2", caller.WorkspaceID, req.ID)
	})
	if err != nil {
		return Contact{}, err
	}
	return found[0], nil
}

// contactShown is 404 where the workspace has no such contact, 410 where it is frozen or was erased.
func contactShown(ctx context.Context, tx *sqldb.Tx, workspace, id string) error {
	var frozen int
	err := tx.QueryRowContext(ctx, "SELECT frozen FROM contacts WHERE workspace_id = $1 AND id = $2", workspace, id).Scan(&frozen)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return store.Missing(ctx, tx, workspace, store.KindContact, id)
	case err == nil && frozen != 0:
		return problem.Gone("contact")
	}
	return err
}

func queryContacts(ctx context.Context, tx *sqldb.Tx, condition string, args ...any) ([]*contactRow, error) {
	var found []*contactRow
	byID := map[string]*contactRow{}
	var ids []string
	err := sqldb.Query(ctx, tx, "SELECT id, created_us, subject_id FROM contacts WHERE "+condition, args, func(rows sqldb.Row) error {
		var c contactRow
		var subject string
		err := rows.Scan(&c.id, &c.created, &subject)
		c.subjects = []string{subject}
		found, ids, byID[c.id] = append(found, &c), append(ids, c.id), &c
		return err
	})
	if err != nil || len(ids) == 0 {
		return found, err
	}
	list, args := sqldb.In(1, ids)
	err = sqldb.Query(ctx, tx, "SELECT contact_id, subject_id FROM identities WHERE contact_id IN ("+list+") ORDER BY subject_id", args,
		func(rows sqldb.Row) error {
			var contact, subject string
			err := rows.Scan(&contact, &subject)
			if c := byID[contact]; err == nil && !slices.Contains(c.subjects, subject) {
				c.subjects = append(c.subjects, subject)
			}
			return err
		})
	return found, err
}

func (a *API) viewContacts(ctx context.Context, workspace string, read func(tx *sqldb.Tx) ([]*contactRow, error)) ([]Contact, error) {
	var rows []*contactRow
	var persons people
	var subjects []string
	err := a.DB.View(ctx, func(tx *sqldb.Tx) (err error) {
		if rows, err = read(tx); err != nil {
			return err
		}
		persons, subjects = people{}, nil
		for _, c := range rows {
			subjects = append(subjects, c.subjects...)
		}
		return persons.load(ctx, tx, subjects)
	})
	if err != nil {
		return nil, err
	}
	o := &opening{workspace: workspace}
	for _, chunk := range store.Chunks(subjects) {
		persons.ask(o, chunk)
	}
	if err := o.open(ctx, a.Seal, pb.Purpose_PURPOSE_CONVERSATION); err != nil {
		return nil, err
	}
	contacts := make([]Contact, len(rows))
	for i, c := range rows {
		contacts[i] = c.contact(persons)
	}
	return contacts, nil
}

// contact joins what is known under each of the contact's subjects: of two that tell the same thing, the
// newer profile's word counts.
func (c *contactRow) contact(persons people) Contact {
	out := Contact{ID: c.id, Identities: []Identity{}, Attributes: map[string]string{}, CreatedAt: timeText(c.created)}
	var of []*person
	for _, id := range c.subjects {
		if q := persons[id]; q != nil && !q.hidden {
			of = append(of, q)
		}
	}
	slices.SortFunc(of, func(a, b *person) int {
		return cmp.Or(cmp.Compare(b.profileOrder, a.profileOrder), cmp.Compare(b.profileEvent, a.profileEvent), cmp.Compare(a.subject, b.subject))
	})
	for _, q := range of {
		if out.Name == "" {
			out.Name = q.name()
		}
		if value := q.known.GetIdentityValue(); value != "" {
			out.Identities = append(out.Identities, Identity{Channel: q.channel, Kind: q.kind, Value: value})
		}
		for _, p := range []*pb.Profile{&q.opened, &q.known} {
			for name, value := range map[string]string{
				"avatar_url": p.GetAvatarUrl(), "email": p.GetEmail(), "phone": p.GetPhone(),
				"handle": p.GetHandle(), "locale": p.GetLocale(), "time_zone": p.GetTimeZone(),
			} {
				if value != "" && out.Attributes[name] == "" {
					out.Attributes[name] = value
				}
			}
		}
	}
	slices.SortFunc(out.Identities, func(a, b Identity) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return out
}
