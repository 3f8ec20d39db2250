package channel

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLegible(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "Grüezi\n\t👋": "Grüezi\n\t👋", "a\x00b": "a\uFFFDb", "\xff\xfe": "\uFFFD", "a\xffb\x00": "a\uFFFDb\uFFFD", "\uFFFD": "\uFFFD",
	} {
		assert.Equal(t, want, Legible(text), "%q", text)
	}
}
