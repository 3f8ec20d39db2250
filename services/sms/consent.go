package sms

import (
	"slices"
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

// stopRequests plainly ask not to be written to any more, as words that begin like these. A match only asks
// a member to read the message, so it may be generous.
var stopRequests = []string{
	"stop text", "stop messag", "stop contact", "stop send", "stop writ", "stop call", "stop spam", "stop bother",
	"stop with", "stop all", "stop the text", "stop the messag", "stop the sms", "stop these", "stop those", "stop your", "stop this",
	"please stop", "pls stop", "just stop", "quit text", "quit messag", "quit send", "quit contact", "cease ",
	"unsubscribe", "opt out", "opt me out", "opting out",
	"remove me", "remove my number", "remove my phone", "delete my number", "delete my phone", "take me off", "take my number", "take my phone",
	"do not text", "do not message", "do not contact", "do not write", "do not call", "do not sms",
	"don't text", "don't message", "don't contact", "don't write", "don't call", "don't sms",
	"dont text", "dont message", "dont contact", "dont write", "dont call", "dont sms",
	"never text", "never message", "never contact", "never write", "never call",
	"no more text", "no more message", "no more sms", "leave me alone",
	"revoke my consent", "revoke consent", "withdraw my consent", "withdraw consent",
	"abmelden", "abbestellen", "keine nachrichten", "keine weiteren nachrichten", "keine sms", "keine weiteren sms",
	"désabonne", "desabonne", "arrêtez", "arretez", "ne m'écrivez", "ne m'ecrivez", "ne me contactez", "ne m'envoyez",
	"darme de baja", "darse de baja", "no me escrib", "no me envíe", "no me envie", "no me contact",
	"cancellami", "disiscriv", "non scrivetemi", "non contattatemi",
}

// mostOfAText in bytes: more than any text message holds, and less than what would take long to read.
const mostOfAText = 8 << 10

func asksToStop(text string) bool {
	text = strings.ToValidUTF8(text[:min(len(text), mostOfAText)], "")
	words := strings.FieldsFunc(strings.ToLower(norm.NFC.String(text)), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’'
	})
	said := strings.ReplaceAll(strings.Join(words, " "), "’", "'") + " "
	for said != "" {
		if slices.ContainsFunc(stopRequestsBy[said[0]], func(asked string) bool { return strings.HasPrefix(said, asked) }) {
			return true
		}
		_, said, _ = strings.Cut(said, " ")
	}
	return false
}

// stopRequestsBy are the stopRequests by their first byte.
var stopRequestsBy = func() (by [256][]string) {
	for _, asked := range stopRequests {
		by[asked[0]] = append(by[asked[0]], asked)
	}
	return by
}()
