package sms

import (
	"regexp"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/phone"
)

// whatsApp marks an address of WhatsApp.
const whatsApp = "whatsapp:"

var (
	digits     = regexp.MustCompile(`^[1-9][0-9]{2,14}$`)
	shortCode  = regexp.MustCompile(`^[0-9]{3,8}$`)
	senderName = regexp.MustCompile(`^[A-Za-z0-9 ._&+-]{0,10}[A-Za-z][A-Za-z0-9 ._&+-]{0,10}$`)
)

// maxSenderName is as long as the name of a sender may be.
const maxSenderName = 11

// identity of who has an address; not ok where it is none. Numbers are made E.164; short codes and names
// of senders are kept as they are. A WhatsApp address keeps its prefix, because it can be answered by that
// alone.
func identity(address string) (channel.Identity, bool) {
	address = strings.Trim(address, " ")
	if len(address) >= len(whatsApp) && strings.EqualFold(address[:len(whatsApp)], whatsApp) {
		number, ok := phone.E164(strings.Trim(address[len(whatsApp):], " "))
		return channel.Identity{Kind: "whatsapp", Value: whatsApp + number}, ok
	}
	if number, ok := phone.E164(address); ok {
		return channel.Identity{Kind: "phone", Value: number}, true
	}
	ok := shortCode.MatchString(address) || len(address) <= maxSenderName && senderName.MatchString(address)
	return channel.Identity{Kind: "phone", Value: address}, ok
}

// withPlus is an address whose international numbers came without their plus. Up to eight digits may be a short
// code as well: they are one unless they are some country's number.
func withPlus(address string) string {
	if !digits.MatchString(address) {
		return address
	}
	number := "+" + address
	if len(address) <= 8 {
		if parsed, err := phonenumbers.Parse(number, ""); err != nil || !phonenumbers.IsValidNumber(parsed) {
			return address
		}
	}
	return number
}

// canBeAnswered is false for a sender that is a name and no number: nothing can be sent there.
func canBeAnswered(address string) bool {
	number := strings.TrimPrefix(strings.TrimPrefix(address, whatsApp), "+")
	for _, c := range number {
		if c < '0' || c > '9' {
			return false
		}
	}
	return number != ""
}
