package phone

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestE164(t *testing.T) {
	for written, want := range map[string]string{
		"+4930901820":                     "+4930901820",
		"+49 (0)30 901820":                "+4930901820",
		"+1 (415) 555-2671":               "+14155552671",
		"+44 020 7946 0018":               "+442079460018",
		"+39 06 6982":                     "+39066982", // the zero is the number's own
		"":                                "",
		"+":                               "",
		"+1":                              "",
		"4930901820":                      "",
		"030 901820":                      "",
		"+49 30 90182O":                   "",
		"+0301":                           "",
		"+4930٩٠١٨٢٠":                     "",
		"+1234567890123456":               "",
		"+" + strings.Repeat("1", 41):     "",
		"+49 30 901820 ext. 7":            "",
		"whatsapp:+4930901820":            "",
		"+49 " + strings.Repeat(" ", 40):  "",
		"+1-415-555-2671 (((((((((((((((": "+14155552671",
	} {
		for range 2 { // the second time by what is remembered
			number, ok := E164(written)
			assert.Equal(t, want, number, "%q", written)
			assert.Equal(t, want != "", ok, "%q", written)
		}
	}
}

func TestOnlyWhatIsE164AsItIsWrittenIsRemembered(t *testing.T) {
	_, _ = E164("+49 (0)30 901821")
	assert.False(t, alike("+49 (0)30 901821"))
	assert.False(t, alike("+4930901821"))
	_, _ = E164("+4930901821")
	assert.True(t, alike("+4930901821"))
	_, _ = E164("+1234567890123456")
	assert.False(t, alike("+1234567890123456"))
}

func BenchmarkE164(b *testing.B) {
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			E164("+4930901820")
		}
	})
	b.Run("otherwise written", func(b *testing.B) {
		for b.Loop() {
			E164("+49 30 901820")
		}
	})
}
