package shopify

import (
	"regexp"
	"strings"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/phone"
)

// Kinds of identity. Mail addresses and numbers are written as the channels of mail and text messages write them, so
// that who writes there and who orders here is one person.
const (
	kindEmail    = "email"
	kindPhone    = "phone"
	kindCustomer = "shopify_customer"
)

var mailAddress = regexp.MustCompile(`^[^\s@\x00-\x20\x7f<>,;"]{1,64}@[^\s@\x00-\x20\x7f<>,;"]{1,255}$`)

// customer as orders carry it, and as customers/create and customers/update tell it
// (https://shopify.dev/docs/api/admin-rest/latest/resources/customer).
type customer struct {
	claims
	ID        id     `json:"id"`
	Email     text   `json:"email"`
	Phone     text   `json:"phone"`
	FirstName text   `json:"first_name"`
	LastName  text   `json:"last_name"`
	Locale    text   `json:"locale"`
	CreatedAt moment `json:"created_at"`
	UpdatedAt moment `json:"updated_at"`
}

// party is who an object of the shop is of.
type party struct {
	email, phone, customer string
	name, locale           string
}

// partyOf takes an object's own address and number, and its customer's where it has none. Addresses of delivery and
// billing say nothing here: a gift goes to somebody else.
func partyOf(email, phone, locale text, c customer) party {
	p := party{email: inMail(email), phone: inE164(phone), customer: string(c.ID), locale: string(locale)}
	if p.email == "" {
		p.email = inMail(c.Email)
	}
	if p.phone == "" {
		p.phone = inE164(c.Phone)
	}
	if p.locale == "" {
		p.locale = string(c.Locale)
	}
	p.name = strings.TrimSpace(strings.TrimSpace(string(c.FirstName)) + " " + strings.TrimSpace(string(c.LastName)))
	return p
}

// identities that an object is kept under: one copy for the mail address and one for the number, so that whoever of
// them is erased takes theirs along; the shop's own customer only where it has neither.
func (p party) identities(shop string) (found []channel.Identity) {
	if p.email != "" {
		found = append(found, channel.Identity{Kind: kindEmail, Value: p.email})
	}
	if p.phone != "" {
		found = append(found, channel.Identity{Kind: kindPhone, Value: p.phone})
	}
	if len(found) == 0 && p.customer != "" {
		found = append(found, channel.Identity{Kind: kindCustomer, Value: shop + ":" + p.customer})
	}
	return found
}

// known is the address or the number of a copy: the other one is not in it, so that it goes with who has it.
func (p party) known(kind string) (email, phone string) {
	switch kind {
	case kindEmail:
		return p.email, ""
	case kindPhone:
		return "", p.phone
	}
	return "", ""
}

func (p party) profile(kind string) *channel.Profile {
	email, phone := p.known(kind)
	return &channel.Profile{Name: p.name, Email: email, Phone: phone, Locale: p.locale}
}

// inMail is a mail address in lower case; empty where it is none.
func inMail(address text) string {
	normal := strings.ToLower(strings.TrimSpace(string(address)))
	if !mailAddress.MatchString(normal) {
		return ""
	}
	return normal
}

// inE164 is an international number in E.164; empty where it is none. Shopify keeps numbers so.
func inE164(number text) string {
	normal, _ := phone.E164(strings.TrimSpace(string(number)))
	return normal
}
