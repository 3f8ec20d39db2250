package slack

import (
	"strings"

	"tributary.dev/libs/channel"
)

// plain is text without Slack's markup, with its mentions marked. A mention is written as the user's id,
// never as a name: a name would be personal data of somebody else than the author.
//
//bound:exempt one text
type plain struct {
	strings.Builder
	team     string
	mentions []channel.Mention
}

// written gives what a message says. Its text field is the whole of it as a rule; blocks count where they
// say more, legacy attachments where nothing else is said. A message that is forwarded is said below.
func written(team string, m *message) *plain {
	text := &plain{team: team}
	text.markup(m.Text)
	if len(m.Blocks) > 0 {
		if blocks := rendered(team, m.Blocks); blocks.Len() > text.Len() {
			text = blocks
		}
	}
	alone := text.Len() == 0 && len(m.Files) == 0
	for i := range m.Attachments {
		if a := &m.Attachments[i]; a.IsShare || alone && a.FromURL == "" { // else beside a text, or the unfurl of a link
			text.attachment(a)
		}
	}
	return text
}

func (p *plain) attachment(a *attachment) {
	said := []string{a.Pretext, a.Title, a.Text}
	if a.Pretext+a.Title+a.Text == "" {
		before := p.Len()
		for i := range a.Blocks {
			p.block(&a.Blocks[i])
		}
		if p.Len() > before {
			return
		}
		said = []string{a.Fallback}
	}
	for _, s := range said {
		if s != "" {
			p.line()
			p.markup(s)
		}
	}
}

// markup decodes https://docs.slack.dev/messaging/formatting-message-text: references in angle brackets,
// and the three escaped characters. Emphasis marks stay, as they do in any plain text.
func (p *plain) markup(s string) {
	for s != "" {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			break
		}
		end := strings.IndexByte(s[open:], '>')
		if end < 0 {
			break
		}
		p.WriteString(unescape(s[:open]))
		p.reference(s[open+1 : open+end])
		s = s[open+end+1:]
	}
	p.WriteString(unescape(s))
}

func (p *plain) reference(ref string) {
	target, label, _ := strings.Cut(ref, "|")
	target, label = unescape(target), unescape(label)
	switch {
	case strings.HasPrefix(target, "@") && isID(target[1:]):
		p.mention(target[1:])
	case strings.HasPrefix(target, "#") && isID(target[1:]):
		p.WriteString("#" + either(label, target[1:]))
	case strings.HasPrefix(target, "!subteam^"):
		p.WriteString("@" + strings.TrimPrefix(either(label, strings.TrimPrefix(target, "!subteam^")), "@"))
	case strings.HasPrefix(target, "!date^"):
		p.WriteString(label)
	case strings.HasPrefix(target, "!"):
		p.WriteString("@" + strings.TrimPrefix(either(label, target[1:]), "@"))
	default:
		p.link(target, label)
	}
}

func (p *plain) mention(userID string) {
	p.mentions = append(p.mentions, channel.Mention{
		Start: p.Len(), Length: len(userID) + 1,
		Identity: channel.Identity{Kind: "slack_user", Value: p.team + ":" + userID},
	})
	p.WriteString("@" + userID)
}

// link writes the label and, where it says anything else, the address.
func (p *plain) link(target, label string) {
	bare := strings.TrimPrefix(strings.TrimPrefix(target, "mailto:"), "tel:")
	_, noScheme, _ := strings.Cut(target, "://")
	switch label {
	case "", target, bare:
		p.WriteString(bare)
	case noScheme:
		p.WriteString(target)
	default:
		p.WriteString(label + " (" + bare + ")")
	}
}

// append adds what another holds, its mentions where they then are.
func (p *plain) append(other *plain) {
	for _, m := range other.mentions {
		m.Start += p.Len()
		p.mentions = append(p.mentions, m)
	}
	p.WriteString(other.String())
}

// line begins a new one, unless there is nothing above it.
func (p *plain) line() {
	if s := p.String(); s != "" && !strings.HasSuffix(s, "\n") {
		p.WriteByte('\n')
	}
}

// unescape undoes Slack's escaping once: "&amp;lt;" is "&lt;".
func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

func either(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
