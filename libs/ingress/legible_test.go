package ingress

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"tributary.dev/libs/channel"
)

// Every text that a person may have written is met, whatever fields are added.
func TestNothingThatPersonsWroteKeepsANUL(t *testing.T) {
	e := channel.Event{Content: &channel.Content{Attachments: make([]channel.Attachment, 1), References: make([]string, 1)},
		Profile: &channel.Profile{}, Commerce: &channel.Commerce{Tags: make([]string, 1), Lines: make([]channel.CommerceLine, 1)}}
	write := func(text string) func(reflect.Value) { return func(v reflect.Value) { v.SetString(text) } }
	texts(reflect.ValueOf(&e.Emoji), write("a\x00b\xff"))
	texts(reflect.ValueOf(e.Content), write("a\x00b\xff"))
	texts(reflect.ValueOf(e.Profile), write("a\x00b\xff"))
	texts(reflect.ValueOf(e.Commerce), write("a\x00b\xff"))
	e.Commerce.Kind, e.Commerce.ID, e.Commerce.Parent = "order", "1", "" // words and ids, which go into keys as they are
	e.Technical = map[string]string{"ip\x00": "\x00"}
	e.Content.Mentions = []channel.Mention{{Start: 0, Length: 1}}

	got := legible(e)
	seen := 0
	for _, v := range []any{&got.Emoji, got.Content, got.Profile, got.Commerce} {
		texts(reflect.ValueOf(v), func(v reflect.Value) {
			if seen++; v.String() != "order" && v.String() != "1" && v.String() != "" {
				assert.Equal(t, "a\uFFFDb\uFFFD", v.String())
			}
		})
	}
	assert.Greater(t, seen, 30)
	assert.Equal(t, map[string]string{"ip\uFFFD": "\uFFFD"}, got.Technical)
	assert.Empty(t, got.Content.Mentions, "their places have moved")
	assert.Equal(t, "a\x00b\xff", e.Content.Text, "the adapter's own is left alone")
	assert.Equal(t, "a\x00b\xff", e.Commerce.Tags[0])
}

// texts calls f with every string that a pointer leads to.
func texts(v reflect.Value, f func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		texts(v.Elem(), f)
	case reflect.Struct:
		for i := range v.NumField() {
			texts(v.Field(i), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			texts(v.Index(i), f)
		}
	case reflect.String:
		f(v)
	}
}
