package sms

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
	"tributary.dev/libs/channel"
)

// whatsApp marks an address of WhatsApp.
const whatsApp = "whatsapp:"

// identity of who has an address. Numbers are E.164; short codes and names of senders are kept as they
// are. A WhatsApp address keeps its prefix, because it can be answered by that alone.
func identity(address string) (channel.Identity, bool) {
	address = strings.TrimSpace(address)
	if len(address) > 128 {
		return channel.Identity{}, false
	}
	if len(address) >= len(whatsApp) && strings.EqualFold(address[:len(whatsApp)], whatsApp) {
		number := e164(strings.TrimSpace(address[len(whatsApp):]))
		return channel.Identity{Kind: "whatsapp", Value: whatsApp + number}, number != ""
	}
	number := e164(address)
	return channel.Identity{Kind: "phone", Value: number}, number != ""
}

// e164 normalises an international number; anything else stays what it is.
func e164(number string) string {
	if !strings.HasPrefix(number, "+") {
		return number
	}
	parsed, err := phonenumbers.Parse(number, "")
	if err != nil {
		return number
	}
	return phonenumbers.Format(parsed, phonenumbers.E164)
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
