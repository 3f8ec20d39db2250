package email

import "strings"

// automatic tells a mail that no person wrote, or not to us alone; answering it by machine may never end (RFC 3834). own
// is the mailbox's address, as far as it is known.
func (l *letter) automatic(own string) bool {
	h := l.header
	if submitted := firstWord(strings.ReplaceAll(h.Get("Auto-Submitted"), ";", " ")); submitted != "" && submitted != "no" {
		return true
	}
	switch firstWord(h.Get("Precedence")) {
	case "bulk", "list", "junk", "auto_reply":
		return true
	}
	for _, field := range []string{"List-Id", "X-Autoreply", "X-Autorespond", "X-Auto-Reply-From", "X-Mail-Autoreply"} {
		if h.Get(field) != "" {
			return true
		}
	}
	suppress := strings.ToLower(h.Get("X-Auto-Response-Suppress")) // what Exchange puts on its own answers
	switch {
	case strings.Contains(suppress, "all"), strings.Contains(suppress, "autoreply"):
		return true
	case l.nullSender, strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "multipart/report"):
		return true
	case strings.HasPrefix(l.from, "mailer-daemon@"):
		return true
	}
	return own != "" && untagged(l.from) == own
}
