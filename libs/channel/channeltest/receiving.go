package channeltest

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// becomes: the channel tells of something at all.
func becomes(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	for _, s := range posts(samples) {
		if result, ok := normalise(t, kit, adapter, kit.signed(s, NewSecret)); ok && len(result.Events) > 0 {
			return
		}
	}
	t.Errorf("no sample becomes an event: add a message to %s as the provider sends it, and have Normalise make an event of it", kit.folder())
}

// unknownFields: a provider adds fields at any time, without a word.
func unknownFields(t *testing.T, kit Kit, samples []sample) {
	for _, s := range posts(samples) {
		more, ok := widened(s)
		if !ok {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			want, asked := normalise(t, kit, kit.New(), kit.signed(s, NewSecret))
			got, askedAgain := normalise(t, kit, kit.New(), kit.signed(more, NewSecret))
			require.Equal(t, asked, askedAgain)
			assert.Equal(t, want, got)
		})
	}
}

// widened is a sample with a field more in each object, or in its form; not ok where it is neither JSON nor a form.
func widened(s sample) (sample, bool) {
	switch {
	case s.is("application/json"):
		return s.with(widenedJSON(s.body)), true
	case s.is("application/x-www-form-urlencoded"):
		return s.with(slices.Concat(s.body, []byte("&TributaryUnknown=1"))), true
	}
	return s, false
}

// widenedJSON leaves every byte as it is, numbers of 64 bits too, and adds.
func widenedJSON(body []byte) []byte {
	var b bytes.Buffer
	text, escaped := false, false
	for i, c := range body {
		b.WriteByte(c)
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case c == '{' && !text:
			b.WriteString(`"tributary_unknown":{"a":[1,null]}`)
			if rest := bytes.TrimLeft(body[i+1:], " \t\r\n"); len(rest) > 0 && rest[0] != '}' {
				b.WriteByte(',')
			}
		}
	}
	return b.Bytes()
}

// unknownTypes: what is no event of ours is answered 2xx all the same, and counted by the provider's word for it.
func unknownTypes(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	for _, s := range posts(samples) {
		if result, ok := normalise(t, kit, adapter, kit.signed(s, NewSecret)); ok && len(result.Unknown) > 0 {
			assert.True(t, result.Reply.Status == 0 || result.Reply.Status/100 == 2, "a 4xx makes providers switch a webhook off")
			return
		}
	}
	t.Errorf("no sample is of an unknown type: add one to %s of what the provider sends and the channel has no event for", kit.folder())
}

func withoutFields(_ Kit, samples []sample) string {
	if !slices.ContainsFunc(samples, func(s sample) bool { _, ok := widened(s); return ok }) {
		return "neither JSON nor forms: the kit can't add to it"
	}
	return ""
}

func withoutTypes(kit Kit, samples []sample) string {
	if withoutFields(kit, samples) != "" {
		return "neither JSON nor forms: what has no types has no unknown ones"
	}
	return ""
}

// badItem: what can be read of a request is taken.
func badItem(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	for _, s := range posts(samples) {
		if result, ok := normalise(t, kit, adapter, kit.signed(s, NewSecret)); ok && len(result.Events) > 0 && len(result.Faults) > 0 {
			return
		}
	}
	t.Errorf("no sample has a bad item beside a good one: add one to %s, and have Normalise report the bad item as a fault", kit.folder())
}

// is tells a sample's content type.
func (s sample) is(contentType string) bool {
	said, _, _ := strings.Cut(s.header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(said), contentType) && s.method == http.MethodPost
}
