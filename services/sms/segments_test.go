package sms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		name, text, encoding string
		segments             int
	}{
		{"nothing", "", "GSM-7", 0},
		{"160 fit in one", strings.Repeat("a", 160), "GSM-7", 1},
		{"161 take two", strings.Repeat("a", 161), "GSM-7", 2},
		{"306 fit in two", strings.Repeat("a", 306), "GSM-7", 2},
		{"307 take three", strings.Repeat("a", 307), "GSM-7", 3},
		{"the alphabet knows these", "Grüezi è ñ Ω £ \n", "GSM-7", 1},
		{"an extension counts twice", strings.Repeat("€", 80), "GSM-7", 1},
		{"and does not fit when odd", strings.Repeat("€", 80) + "a", "GSM-7", 2},
		{"an extension is never cut", strings.Repeat("a", 152) + "€" + strings.Repeat("a", 151), "GSM-7", 2},
		{"which costs a segment here", strings.Repeat("a", 152) + "€" + strings.Repeat("a", 152), "GSM-7", 3},
		{"one character changes all", strings.Repeat("a", 70) + "’", "UCS-2", 2},
		{"70 fit in one", strings.Repeat("я", 70), "UCS-2", 1},
		{"71 take two", strings.Repeat("я", 71), "UCS-2", 2},
		{"134 fit in two", strings.Repeat("я", 134), "UCS-2", 2},
		{"an emoji counts twice", strings.Repeat("🙂", 35), "UCS-2", 1},
		{"and is never cut", strings.Repeat("я", 66) + "🙂" + strings.Repeat("я", 66), "UCS-2", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			encoding, segments := Segments(c.text)
			assert.Equal(t, c.encoding, encoding)
			assert.Equal(t, c.segments, segments)
		})
	}
}

func TestSegmentsNeverFallWithLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		more := text + rapid.String().Draw(t, "more")
		_, fewer := Segments(text)
		if _, segments := Segments(more); segments < fewer {
			t.Fatalf("%d segments became %d", fewer, segments)
		}
	})
}
