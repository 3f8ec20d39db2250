package sms

import (
	"strings"
	"unicode/utf16"
)

// gsm7 is GSM 03.38's basic character set, gsm7Extension what takes an escape before it.
const (
	gsm7 = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡" +
		"ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsm7Extension = "\f^{}\\[~]|€"
)

// Segments is in how many pieces a text travels, and in which alphabet: "GSM-7" with 160 characters in one
// piece and 153 in each of several, or "UCS-2" with 70 and 67. A character of two units is never cut.
func Segments(text string) (encoding string, segments int) {
	units := func(r rune) int {
		if strings.ContainsRune(gsm7Extension, r) {
			return 2
		}
		return 1
	}
	encoding, single, several := "GSM-7", 160, 153
	for _, r := range text {
		if !strings.ContainsRune(gsm7, r) && !strings.ContainsRune(gsm7Extension, r) {
			encoding, single, several = "UCS-2", 70, 67
			units = utf16.RuneLen
			break
		}
	}
	if text == "" {
		return encoding, 0
	}
	total, segments, room := 0, 1, several
	for _, r := range text {
		n := max(units(r), 1)
		total += n
		if n > room {
			segments, room = segments+1, several
		}
		room -= n
	}
	if total <= single {
		return encoding, 1
	}
	return encoding, segments
}
