package channel

import "strings"

// Legible makes text fit for whatever keeps it: UTF-8, and without NUL, which neither C strings nor PostgreSQL's
// text have. What is not becomes U+FFFD.
func Legible(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
