package slack

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func TestMarkupBecomesPlainText(t *testing.T) {
	for markup, want := range map[string]string{
		"plain":                                 "plain",
		"a &amp; b &lt; c &gt; d":               "a & b < c > d",
		"&amp;lt; is escaped once":              "&lt; is escaped once",
		"<@U1>":                                 "@U1",
		"<@U1|ada>":                             "@U1",
		"<@u1>":                                 "@u1",
		"<#C1|general>":                         "#general",
		"<#C1>":                                 "#C1",
		"<#C1|>":                                "#C1",
		"<https://example.com>":                 "https://example.com",
		"<https://example.com|example.com>":     "https://example.com",
		"<https://example.com|our shop>":        "our shop (https://example.com)",
		"<https://e.com/?a=1&amp;b=2|a &lt;>":   "a < (https://e.com/?a=1&b=2)",
		"<mailto:a@example.com|a@example.com>":  "a@example.com",
		"<tel:+41791234567|+41 79>":             "+41 79 (+41791234567)",
		"<!here>":                               "@here",
		"<!channel|@channel>":                   "@channel",
		"<!subteam^S1|@devs>":                   "@devs",
		"<!subteam^S1>":                         "@S1",
		"<!date^1392734382^{date}|18 February>": "18 February",
		"3 < 4":                                 "3 < 4",
		"a <b":                                  "a <b",
		"*b* _i_ ~s~":                           "*b* _i_ ~s~",
		"<>":                                    "",
		"ends in <":                             "ends in <",
	} {
		t.Run(markup, func(t *testing.T) {
			p := &plain{team: "T1"}
			p.markup(markup)
			assert.Equal(t, want, p.String())
		})
	}
}

func TestMentionsMarkTheirPlaceAndHoldNoName(t *testing.T) {
	p := &plain{team: "T1"}
	p.markup("Grüezi <@U1|ada>, <@W2>")
	assert.Equal(t, "Grüezi @U1, @W2", p.String())
	assert.Equal(t, []channel.Mention{
		{Start: 8, Length: 3, Identity: channel.Identity{Kind: "slack_user", Value: "T1:U1"}},
		{Start: 13, Length: 3, Identity: channel.Identity{Kind: "slack_user", Value: "T1:W2"}},
	}, p.mentions)
}

func TestBlocksCountWhereTheySayMore(t *testing.T) {
	for name, c := range map[string]struct{ message, want string }{
		"text is the whole of it":    {`{"text":"*hello* there","blocks":[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"hello there"}]}]}]}`, "*hello* there"},
		"a summary beside blocks":    {`{"text":"Order 7","blocks":[{"type":"header","text":{"type":"plain_text","text":"Order 7"}},{"type":"section","text":{"type":"mrkdwn","text":"for <@U1>"},"fields":[{"type":"mrkdwn","text":"*Total*"},{"type":"plain_text","text":"<12>"}]},{"type":"context","elements":[{"type":"image"},{"type":"mrkdwn","text":"paid"}]},{"type":"divider"},{"type":"from_the_future","text":7}]}`, "Order 7\nfor @U1\n*Total*\n<12>\npaid"},
		"markdown":                   {`{"text":"","blocks":[{"type":"markdown","text":"# Hi"}]}`, "# Hi"},
		"attachments, nothing else":  {`{"text":"","attachments":[{"fallback":"old <https://x|style>"}]}`, "old style (https://x)"},
		"an unfurl is not said":      {`{"text":"","attachments":[{"fallback":"X","from_url":"https://x"}]}`, ""},
		"attachments beside a text":  {`{"text":"look","attachments":[{"fallback":"more"}]}`, "look"},
		"a date, a colour, a group":  {`{"text":"","blocks":[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"date","timestamp":1,"fallback":"today"},{"type":"text","text":" "},{"type":"color","value":"#F00"},{"type":"usergroup","usergroup_id":"S1"}]}]}]}`, "today #F00@S1"},
		"a quote with a mention":     {`{"text":"","blocks":[{"type":"rich_text","elements":[{"type":"rich_text_quote","elements":[{"type":"text","text":"one\n"},{"type":"user","user_id":"U1"}]}]}]}`, "> one\n> @U1"},
		"a table, mentions in cells": {`{"text":"","blocks":[{"type":"table","rows":[[{"type":"raw_text","text":"a"},{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"user","user_id":"U1"}]}]}],[]]}]}`, "a | @U1\n"},
		"an attachment's blocks":     {`{"text":"","attachments":[{"fallback":"[no preview]","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"<@U1>"}}]}]}`, "@U1"},
		"what was forwarded":         {`{"text":"look","attachments":[{"is_share":true,"is_msg_unfurl":true,"from_url":"https://x","text":"the &lt;words&gt;"}]}`, "look\nthe <words>"},
		"an emoji without character": {`{"text":"","blocks":[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"emoji","name":"x","unicode":"zz"}]}]}]}`, ":x:"},
	} {
		t.Run(name, func(t *testing.T) {
			var m message
			require.NoError(t, json.Unmarshal([]byte(c.message), &m))
			assert.Equal(t, c.want, written("T1", &m).String())
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("a &amp; <@U1|x> <https://x|y", `[{"type":"rich_text","elements":[{"type":"rich_text_list","style":"ordered","offset":-1,"elements":[{"elements":[{"type":"user","user_id":"U1"}]}]}]}]`)
	f.Add("", `[{"type":"rich_text","elements":[{"type":"rich_text_quote","elements":[{"type":"text","text":"a\n"},{"type":"user","user_id":"U1"}]}]},{"type":"table","rows":[[{"text":"x"},{"type":"mrkdwn","text":"<@U1>"}]]}]`)
	f.Fuzz(func(t *testing.T, text, blocks string) {
		m := message{Text: string([]rune(text))}
		_ = channel.Decode([]byte(blocks), &m.Blocks)
		got := written("T1", &m)
		if !utf8.ValidString(got.String()) {
			t.Errorf("%q is not UTF-8", got)
		}
		for _, mention := range got.mentions {
			if got.String()[mention.Start:mention.Start+mention.Length] != "@"+mention.Identity.Value[len("T1:"):] {
				t.Errorf("a mention is not where it says")
			}
		}
	})
}
