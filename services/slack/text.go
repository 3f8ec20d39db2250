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
// say more, legacy attachments where nothing else is said.
func written(team string, m *message) *plain {
	text := &plain{team: team}
	text.markup(m.Text)
	if len(m.Blocks) > 0 {
		if blocks := rendered(team, m.Blocks); blocks.Len() > text.Len() {
			text = blocks
		}
	}
	if text.Len() > 0 || len(m.Files) > 0 {
		return text
	}
	for _, a := range m.Attachments {
		if a.FromURL != "" {
			continue // the unfurl of a link
		}
		said := []string{a.Fallback}
		if a.Pretext+a.Title+a.Text != "" {
			said = []string{a.Pretext, a.Title, a.Text}
		}
		for _, s := range said {
			if s != "" {
				text.line()
				text.markup(s)
			}
		}
	}
	return text
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
