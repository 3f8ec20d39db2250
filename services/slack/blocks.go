package slack

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tributary.dev/libs/channel"
)

// block is any block or element of Block Kit, by the fields that carry words
// (https://docs.slack.dev/reference/block-kit/blocks). Types that are not known say nothing.
type block struct {
	Type string `json:"type"`
	// Text is a string in rich text and an object elsewhere; Style a list's word or a text's object.
	Text     jsontext.Value `json:"text"`
	Style    jsontext.Value `json:"style"`
	Fields   []textObject   `json:"fields"`
	Elements []block        `json:"elements"`
	Indent   int            `json:"indent"`
	Offset   int            `json:"offset"`

	UserID      string `json:"user_id"`
	ChannelID   string `json:"channel_id"`
	UsergroupID string `json:"usergroup_id"`
	Name        string `json:"name"`
	Unicode     string `json:"unicode"`
	URL         string `json:"url"`
	Range       string `json:"range"`
	Fallback    string `json:"fallback"`
	Value       string `json:"value"`

	Title       jsontext.Value `json:"title"`
	TeamID      string         `json:"team_id"`
	AltText     string         `json:"alt_text"`
	Label       textObject     `json:"label"`
	Description textObject     `json:"description"`
	TitleURL    string         `json:"title_url"`
	Rows        [][]block      `json:"rows"`
}

type textObject struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// rendered gives blocks as plain text, a line for each paragraph, item or field.
func rendered(team string, blocks []block) *plain {
	p := &plain{team: team}
	for i := range blocks {
		p.block(&blocks[i])
	}
	return p
}

func (p *plain) block(b *block) {
	switch b.Type {
	case "rich_text", "context":
		for i := range b.Elements {
			p.block(&b.Elements[i])
		}
	case "rich_text_section", "rich_text_preformatted":
		p.line()
		p.inline(b.Elements)
	case "rich_text_quote":
		p.quote(b)
	case "rich_text_list":
		p.list(b)
	case "header", "section":
		var text textObject
		_ = channel.Decode(b.Text, &text)
		p.object(text)
		for _, field := range b.Fields {
			p.object(field)
		}
	case "image":
		p.object(textObject{Text: b.AltText})
	case "video":
		var title textObject
		_ = channel.Decode(b.Title, &title)
		p.object(title)
		p.object(b.Description)
		p.object(textObject{Text: b.TitleURL})
	case "input":
		p.object(b.Label)
	case "table":
		p.table(b.Rows)
	case "mrkdwn", "plain_text":
		p.object(textObject{Type: b.Type, Text: b.words()})
	case "markdown":
		p.object(textObject{Text: b.words()})
	}
}

func (p *plain) object(t textObject) {
	if t.Text == "" {
		return
	}
	p.line()
	if t.Type == "mrkdwn" {
		p.markup(t.Text)
	} else {
		p.WriteString(t.Text)
	}
}

// quote marks each line as quoted, as the text of a message does.
func (p *plain) quote(b *block) {
	const mark = "> "
	said := &plain{team: p.team}
	said.inline(b.Elements)
	text := said.String()
	quoted := &plain{team: p.team, mentions: said.mentions}
	for i := range quoted.mentions {
		m := &quoted.mentions[i]
		m.Start += len(mark) * (1 + strings.Count(text[:m.Start], "\n"))
	}
	quoted.WriteString(mark + strings.ReplaceAll(text, "\n", "\n"+mark))
	p.line()
	p.append(quoted)
}

func (p *plain) list(b *block) {
	var style string
	_ = channel.Decode(b.Style, &style)
	for i := range b.Elements {
		p.line()
		p.WriteString(strings.Repeat("    ", min(max(b.Indent, 0), 8)))
		if style == "ordered" {
			p.WriteString(strconv.Itoa(b.Offset+i+1) + ". ")
		} else {
			p.WriteString("• ")
		}
		p.inline(b.Elements[i].Elements)
	}
}

// table gives a line for each row.
func (p *plain) table(rows [][]block) {
	for _, row := range rows {
		p.line()
		for i := range row {
			if i > 0 {
				p.WriteString(" | ")
			}
			cell := &plain{team: p.team}
			if cell.WriteString(row[i].words()); cell.Len() == 0 {
				cell.block(&row[i])
			}
			p.append(cell)
		}
	}
}

func (p *plain) inline(elements []block) {
	for i := range elements {
		e := &elements[i]
		switch {
		case e.Type == "user" && isID(e.UserID):
			p.mention(e.UserID)
		case e.Type == "usergroup":
			p.WriteString("@" + e.UsergroupID)
		case e.Type == "channel":
			p.WriteString("#" + e.ChannelID)
		case e.Type == "broadcast":
			p.WriteString("@" + e.Range)
		case e.Type == "emoji":
			p.WriteString(emoji(e))
		case e.Type == "link":
			p.link(e.URL, e.words())
		case e.Type == "team":
			p.WriteString("@" + e.TeamID)
		case e.Type == "date":
			p.WriteString(e.Fallback)
		case e.Type == "color":
			p.WriteString(e.Value)
		default:
			p.WriteString(e.words())
		}
	}
}

// words are an element's text where it is a string.
func (b *block) words() string {
	var s string
	_ = channel.Decode(b.Text, &s)
	return s
}

// emoji as the character where Slack names its code points ("1f468-200d-1f4bb"), else by name.
func emoji(e *block) string {
	var b strings.Builder
	for _, hex := range strings.Split(e.Unicode, "-") {
		point, err := strconv.ParseUint(hex, 16, 21)
		if err != nil || point < 0x20 {
			return ":" + e.Name + ":"
		}
		b.WriteRune(rune(point))
	}
	return b.String()
}
