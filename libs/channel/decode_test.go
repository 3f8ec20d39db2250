package channel_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"tributary.dev/libs/channel"
)

func TestDecodeLosesNoMessageForOneField(t *testing.T) {
	type body struct {
		Text  string `json:"text"`
		Count int    `json:"count"`
		Inner struct {
			Name string `json:"name"`
		} `json:"inner"`
	}
	whole := body{Text: "Hi", Count: 2}
	whole.Inner.Name = "Ada"
	without := func(change func(*body)) *body {
		b := whole
		change(&b)
		return &b
	}
	for name, c := range map[string]struct {
		data string
		want *body // nil: refused
	}{
		"as expected":            {`{"text":"Hi","count":2,"inner":{"name":"Ada"}}`, &whole},
		"with what is not known": {`{"text":"Hi","new":[{}],"count":2,"inner":{"name":"Ada"}}`, &whole},
		"a number as text":       {`{"text":"Hi","count":"2","inner":{"name":"Ada"}}`, without(func(b *body) { b.Count = 0 })},
		"an object as text":      {`{"text":"Hi","count":2,"inner":"Ada"}`, without(func(b *body) { b.Inner.Name = "" })},
		"a name in large":        {`{"TEXT":"Hi","count":2,"inner":{"name":"Ada"}}`, without(func(b *body) { b.Text = "" })},
		"no UTF-8":               {"{\"text\":\"Hi\xff\",\"count\":2,\"inner\":{\"name\":\"Ada\"}}", without(func(b *body) { b.Text = "Hi�" })},
		"a name twice":           {`{"text":"Hi","text":"Ho"}`, nil},
		"no object":              {`["Hi"]`, nil},
		"cut off":                {`{"text":"Hi"`, nil},
		"something behind":       {`{"text":"Hi"}}`, nil},
		"nothing":                {``, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var b body
			err := channel.DecodeObject([]byte(c.data), &b)
			if c.want == nil {
				assert.Error(t, err)
				assert.NotContains(t, err.Error(), "Hi")
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, *c.want, b)
		})
	}
}
