package channel

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// Units that a channel counts text in.
const (
	UnitCharacters = "characters" // Unicode code points
	UnitUTF16      = "utf16"      // UTF-16 code units
)

// Split cuts text into parts of at most limit units, in order. Joined, the parts are the text: nothing is
// lost, white space included. It cuts after white space that follows a word, so that a part is blank only
// where text has limit units of white space in a row; where a word alone fills a part, between grapheme
// clusters (UAX #29), so that no letter loses its accent and no emoji falls apart; where one cluster alone
// is longer, between code points. A code point larger than limit stands alone. Empty text,
// and a limit below 1, give the text as it is.
func Split(text string, limit int, unit string) []string {
	if limit < 1 || Length(text, unit) <= limit {
		return []string{text}
	}
	//bound:exempt ends with the text
	var parts []string
	for text != "" {
		n := cut(text, limit, unit)
		parts = append(parts, text[:n])
		text = text[n:]
	}
	return parts
}

// Length of text in a unit.
func Length(text string, unit string) int {
	if unit != UnitUTF16 {
		return utf8.RuneCountInString(text)
	}
	n := 0
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}

// cut finds the bytes of text that fit limit: to the end, to behind the last white space, to the last
// whole cluster, or else to the last whole code point, one at least.
func cut(text string, limit int, unit string) int {
	var used, whole, word int
	inked := false
	rest, state := text, -1
	for rest != "" {
		var cluster string
		cluster, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		used += Length(cluster, unit)
		if used > limit {
			switch {
			case word > 0:
				return word
			case whole > 0:
				return whole
			}
			return cutCluster(cluster, limit, unit)
		}
		whole = len(text) - len(rest)
		if r, _ := utf8.DecodeRuneInString(cluster); !unicode.IsSpace(r) {
			inked = true
		} else if inked {
			word = whole
		}
	}
	return len(text)
}

func cutCluster(cluster string, limit int, unit string) int {
	used, end := 0, 0
	for end < len(cluster) {
		_, size := utf8.DecodeRuneInString(cluster[end:])
		used += Length(cluster[end:end+size], unit)
		if used > limit && end > 0 {
			return end
		}
		end += size
	}
	return end
}
