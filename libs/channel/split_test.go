package channel

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplit(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		limit int
		unit  string
		want  []string
	}{
		"what fits stays whole":                {"hello world", 11, UnitCharacters, []string{"hello world"}},
		"after white space, which is kept":     {"hello big world", 10, UnitCharacters, []string{"hello big ", "world"}},
		"a long word between letters":          {"abcdefgh", 3, UnitCharacters, []string{"abc", "def", "gh"}},
		"an accent stays on its letter":        {"ae\u0301o\u0308u", 3, UnitCharacters, []string{"ae\u0301", "o\u0308u"}},
		"a family is not parted":               {"ab👨‍👩‍👧", 6, UnitCharacters, []string{"ab", "👨‍👩‍👧"}},
		"a cluster longer than a part":         {"👨‍👩‍👧", 2, UnitCharacters, []string{"👨\u200d", "👩\u200d", "👧"}},
		"UTF-16 counts surrogates":             {"😀😀😀", 4, UnitUTF16, []string{"😀😀", "😀"}},
		"a code point beyond the limit, alone": {"😀a", 1, UnitUTF16, []string{"😀", "a"}},
		"empty text":                           {"", 5, UnitCharacters, []string{""}},
		"line breaks are white space":          {"one\ntwo three", 8, UnitCharacters, []string{"one\ntwo ", "three"}},
		"no part of white space alone":         {"abc def", 3, UnitCharacters, []string{"abc", " de", "f"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Split(c.text, c.limit, c.unit)) })
	}
}

func TestSplitLosesNothingAndKeepsTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`([a-zä ]|\n|😀|e\x{301}|👨‍👩‍👧|🇨🇭){0,60}`),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		).Draw(t, "text")
		limit := rapid.IntRange(2, 40).Draw(t, "limit")
		unit := rapid.SampledFrom([]string{UnitCharacters, UnitUTF16}).Draw(t, "unit")

		parts := Split(text, limit, unit)

		require.Equal(t, text, strings.Join(parts, ""))
		for i, p := range parts {
			require.LessOrEqual(t, Length(p, unit), limit)
			require.True(t, p != "" || text == "")
			if i > 0 && utf8.ValidString(text) {
				r, _ := utf8.DecodeRuneInString(p)
				require.True(t, utf8.RuneStart(p[0]) && r != utf8.RuneError || strings.ContainsRune(text, utf8.RuneError))
			}
			if i > 0 && longestCluster(text, unit) <= limit {
				require.True(t, endsCluster(text, len(strings.Join(parts[:i], ""))), "cut inside a grapheme cluster")
			}
		}
	})
}

func longestCluster(text, unit string) (longest int) {
	for g := uniseg.NewGraphemes(text); g.Next(); {
		longest = max(longest, Length(g.Str(), unit))
	}
	return longest
}

func endsCluster(text string, at int) bool {
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if _, to := g.Positions(); to == at {
			return true
		}
	}
	return false
}
