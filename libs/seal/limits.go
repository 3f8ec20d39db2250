package seal

import (
	"strings"
	"unicode/utf8"
)

// Limits of the registry. The client keeps them before it asks, so that one caller's fault can't fail
// the call that others share with it.
const (
	// MaxItems of one call.
	MaxItems = 1024
	// MaxIDBytes of a workspace, subject or key id, and of an identity's kind.
	MaxIDBytes = 128
	// MaxValueBytes of an identity's value.
	MaxValueBytes = 1024
)

// ValidID tells whether s can be an id (or a kind): 1 to MaxIDBytes of UTF-8 without control characters.
func ValidID(s string) bool { return valid(s, MaxIDBytes) }

// ValidValue tells whether s can be an identity's value.
func ValidValue(s string) bool { return valid(s, MaxValueBytes) }

func valid(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

func (id Identity) valid() bool {
	return ValidID(id.Workspace) && ValidID(id.Kind) && ValidValue(id.Value)
}
