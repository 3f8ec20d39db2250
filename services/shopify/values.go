package shopify

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Scalars, each read from the JSON string or number that it may come as; of anything else it stays empty. Numbers are
// taken as they are written: a float holds neither an id nor an amount.
type (
	text   string
	id     string
	amount string
	count  int64
	moment struct{ time.Time }
)

var (
	anID      = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)
	anAmount  = regexp.MustCompile(`^-?[0-9]{1,24}(\.[0-9]{1,24})?$`)
	aCurrency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// literal is a JSON string's value, or a number as it is written.
func literal(raw []byte) string {
	var s string
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		var room [64]byte                                 // enough for most
		plain, _ := jsontext.AppendUnquote(room[:0], raw) // it was read as JSON before
		s = string(plain)
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		s = string(raw)
	}
	return strings.ReplaceAll(s, "\x00", "�")
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	*t = text(literal(raw))
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *id) UnmarshalJSON(raw []byte) error {
	*i = ""
	if s := literal(raw); anID.MatchString(s) {
		*i = id(s)
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *amount) UnmarshalJSON(raw []byte) error {
	*a = ""
	if s := literal(raw); anAmount.MatchString(s) {
		*a = amount(s)
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(raw []byte) error {
	n, err := strconv.ParseInt(literal(raw), 10, 64)
	if err != nil {
		n = 0
	}
	*c = count(n)
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(raw []byte) error {
	m.Time = timeOf(literal(raw))
	return nil
}

// timeOf an RFC 3339 text in UTC; zero where it is none, or none of this century or the next.
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.UTC().Year() <= 2000 || t.UTC().Year() >= 2200 {
		return time.Time{}
	}
	return t.UTC()
}

// currency is an ISO 4217 code, or empty.
func (t text) currency() string {
	if aCurrency.MatchString(string(t)) {
		return string(t)
	}
	return ""
}

// sum adds amounts exactly: as whole numbers of the smallest part that any of them has.
func sum(amounts []amount) string {
	scale := 0
	for _, a := range amounts {
		_, part, _ := strings.Cut(string(a), ".")
		scale = max(scale, len(part))
	}
	total := new(big.Int)
	for _, a := range amounts {
		whole, part, _ := strings.Cut(string(a), ".")
		if n, ok := new(big.Int).SetString(whole+part+strings.Repeat("0", scale-len(part)), 10); ok {
			total.Add(total, n)
		}
	}
	digits := new(big.Int).Abs(total).String()
	digits = strings.Repeat("0", max(0, scale+1-len(digits))) + digits
	if scale > 0 {
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if total.Sign() < 0 {
		digits = "-" + digits
	}
	return digits
}
