// Package phone writes telephone numbers in one way, so that a person has the same identity whichever channel names their
// number and however.
package phone

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/nyaruka/phonenumbers"
)

const (
	maxWritten = 41 // characters
	maxDigits  = 15 // ITU-T E.164
)

// E164 is an international number ("+49 (0)30 901820") as ITU-T E.164 has it ("+4930901820"). It is not ok where nothing
// but digits, spaces and ().- follows a plus, or where too many or too few digits are left.
func E164(written string) (number string, ok bool) {
	behind, international := strings.CutPrefix(written, "+")
	if !international || behind == "" || len(written) > maxWritten || strings.Trim(behind, "0123456789 ().-") != "" {
		return "", false
	}
	if alike(written) {
		return written, true
	}
	number = written
	if parsed, err := phonenumbers.Parse(written, ""); err == nil {
		number = phonenumbers.Format(parsed, phonenumbers.E164)
	}
	if !isE164(number) {
		return "", false
	}
	if number == written {
		remember(written)
	}
	return number, true
}

func isE164(number string) bool {
	digits := number[1:]
	return len(digits) >= 2 && len(digits) <= maxDigits && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
}

// Reading a number costs a tenth of what its webhook does, and providers write them as E.164 nearly always. So a keyed hash of
// those that were found to be written so is kept, for less than an erasure waits until no cache holds a key.
const (
	rememberFor = 10 * time.Second
	//bound:cache hashes of telephone numbers that are E.164 as they are written | {}, for {rememberFor} each | forgotten: the number is read again
	maxRemembered = 20_000
)

var (
	seed = maphash.MakeSeed()
	//bound:exempt maxRemembered says it
	remembered = otter.Must(&otter.Options[uint64, struct{}]{
		//bound:exempt maxRemembered says it
		MaximumSize: maxRemembered, ExpiryCalculator: otter.ExpiryWriting[uint64, struct{}](rememberFor),
	})
)

func alike(written string) bool {
	_, ok := remembered.GetEntryQuietly(maphash.String(seed, written))
	return ok
}

func remember(written string) { remembered.Set(maphash.String(seed, written), struct{}{}) }
