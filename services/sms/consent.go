package sms

import (
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"tributary.dev/libs/channel"
)

// consent that a message gives or withdraws; nil where it does neither. The provider's own reading
// decides where there is one (Twilio's OptOutType, which knows a workspace's own words too). YES is an
// opt-in only after a prompt, which the provider alone knows of.
func (m *incoming) consent() *channel.Consent {
	switch m.optOut {
	case "STOP":
		return &channel.Consent{Action: "opt_out", Source: "provider", WorkspaceWide: true}
	case "START":
		return &channel.Consent{Action: "opt_in", Source: "provider"}
	case "HELP":
		return nil
	}
	switch letters(m.body) {
	case "stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout":
		return &channel.Consent{Action: "opt_out", Source: "keyword", WorkspaceWide: true}
	case "start", "unstop":
		return &channel.Consent{Action: "opt_in", Source: "keyword"}
	}
	if asksToStop(m.body) {
		return &channel.Consent{Action: "flagged", Source: "free_text", WorkspaceWide: true}
	}
	return nil
}

func (m *incoming) asksHelp() bool {
	if m.optOut != "" {
		return m.optOut == "HELP"
	}
	word := letters(m.body)
	return word == "help" || word == "info"
}

// letters of a text, in lower case, without punctuation, space and symbols: " Stop! " and "OPT-OUT" are
// the words they mean.
func letters(text string) string {
	if len(text) > 256 { // no word, however decorated
		return ""
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, norm.NFKC.String(text))
}

// stopRequest matches texts that plainly ask not to be written to any more. A match only asks a member to
// read the message, so it may be generous.
var stopRequest = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\b(stop|quit|cease)\s+(all\s+|these\s+|those\s+|the\s+|your\s+|with\s+|sending\s+|to\s+)*(text|message|messag|contact|sending|send|writ|call|sms|spam|bother)`,
	`\b(please|pls|just)\s+stop\b`,
	`\bunsubscribe\b`,
	`\bopt(ing)?(\s+me)?[\s-]+out\b`,
	`\b(remove|delete|take)\s+(me|my\s+(phone\s+)?number)\s+(from|off)\b`,
	`\b(do\s+not|don'?t|never)\s+(ever\s+)?(text|message|contact|write|call|sms)\s+(to\s+)?(me|this|us|my)\b`,
	`\bno\s+more\s+(text|message|sms)`,
	`\bleave\s+me\s+alone\b`,
	`\b(revoke|withdraw)\s+(my\s+)?consent\b`,
	`\b(abmelden|abbestellen)\b`, `\bkeine\s+(weiteren\s+)?(nachrichten|sms)\b`,
	`\bd[eé]sabonne`, `\bne\s+(me|m')\s*([eé]crivez|contactez|envoyez)\b`, `\barr[eê]tez\b`,
	`\bdarme?\s+de\s+baja\b`, `\bno\s+me\s+(escrib|env[ií]|contact)`,
	`\b(cancellami|disiscriv)`, `\bnon\s+(scrivetemi|contattatemi)\b`,
}, "|"))

func asksToStop(text string) bool {
	return stopRequest.MatchString(strings.ReplaceAll(norm.NFC.String(text), "’", "'"))
}
