package email

import (
	"regexp"
	"strings"
)

// newText is what a mail says that is new: without what it quotes below or above, and without signature. Where that
// can't be told for sure, or nothing would be left, it is the whole text: a quotation too many is a nuisance, a
// sentence too few is a loss.
func newText(full, subject string) string {
	lines := strings.Split(strings.ReplaceAll(full, "\r\n", "\n"), "\n")
	kept := lines
	if !forwarded(subject, lines) {
		kept = unquoted(lines)
	}
	kept = unsigned(kept)
	if text := strings.TrimSpace(strings.Join(kept, "\n")); text != "" {
		return text
	}
	return strings.TrimSpace(full)
}

var isForward = regexp.MustCompile(`(?i)^\s*(fwd?|wg|tr|rv|enc|vs|vl|doorst|i|pd|fs|továbbítás|转发|轉寄|転送)\s*:`)

// forwardMarks begin what somebody passes on, and that is what the mail is about.
var forwardMarks = regexp.MustCompile(`(?i)^\s*(-{2,}\s*(forwarded message|original-?nachricht weitergeleitet|weitergeleitete nachricht|message transféré|message transmis|mensaje reenviado|messaggio inoltrato|mensagem encaminhada|doorgestuurd bericht|vidarebefordrat meddelande|videresendt melding|videresendt meddelelse|przekazana wiadomość)\s*-{0,}|begin forwarded message:|anfang der weitergeleiteten nachricht:|début du message réexpédié\s*:|inicio del mensaje reenviado:|inizio messaggio inoltrato:|início da mensagem encaminhada:|begin doorgestuurd bericht:)\s*$`)

func forwarded(subject string, lines []string) bool {
	if isForward.MatchString(subject) {
		return true
	}
	for _, line := range lines {
		if len(line) >= 200 {
			continue
		}
		if mark := strings.TrimSpace(line); (strings.HasPrefix(mark, "--") || strings.HasSuffix(mark, ":")) && forwardMarks.MatchString(mark) {
			return true
		}
	}
	return false
}

// attribution is the line that Gmail, Apple Mail, Thunderbird and Yahoo write above what they quote; in the text of HTML
// and in long lines it may take up to three.
var attribution = regexp.MustCompile(`(?is)^(` + strings.Join([]string{
	`on\s.+\swrote`,
	`am\s.+\sschrieb.*`,
	`.+\sschrieb\s(am\s)?.+`,
	`le\s.+\sa\s(écrit|ecrit)`,
	`el\s.+\s(escribió|escribio)`,
	`il\s.+\sha\sscritto`,
	`em\s.+\sescreveu`,
	`a\s.+\sescreveu`,
	`op\s.+\s(schreef|het volgende geschreven)(.*)`,
	`den\s.+\s(skrev|schrieb)(.*)`,
	`(på|pã)\s.+\sskrev(.*)`,
	`.+\s(skrev|kirjoitti)(\s.*)?`,
	`(dnia|w\sdniu)\s.+\s(napisał|napisała|napisał\(a\)|pisze)(.*)`,
	`dne\s.+\s(napsal|napsala|napsal\(a\))(.*)`,
	`.+\s(írta|ezt írta)(.*)`,
	`.+\s(пишет|написал|написала|писав)(.*)`,
	`.+\starihinde.*\s(yazdı|şunu yazdı)`,
	`.+(のメール|写道|寫道|님이 작성)`,
	`[0-9]{4}[-/.年].+<[^>]+@[^>]+>`,
}, `|`) + `)\s*[:：]?$`)

// unquoted leaves out what is quoted below the new text, or above it.
func unquoted(lines []string) []string {
	if at := outlook(lines); at >= 0 {
		return lines[:at]
	}
	first, last := -1, -1
	for i, line := range lines {
		if quoted(line) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return lines
	}
	for i := first; i <= last; i++ {
		if !quoted(lines[i]) && strings.TrimSpace(lines[i]) != "" && !(wrapped(lines, i)) {
			return lines // answered between the lines
		}
	}
	begin, introduced := attributed(lines, first)
	above, below := blank(lines[:begin]), blank(unsigned(lines[last+1:]))
	switch {
	case !above && below: // the answer stands above
		if !introduced {
			return lines // marks without a line that says whose words they are may be the sender's own
		}
		return lines[:begin]
	case above && !below: // below
		return lines[last+1:]
	}
	return lines
}

// wrapped tells a line that a mail server broke off a quoted one: a short one between two that are quoted.
func wrapped(lines []string, i int) bool {
	return i > 0 && i+1 < len(lines) && quoted(lines[i-1]) && quoted(lines[i+1]) && len(lines[i-1]) > 60 && len(lines[i]) < 30
}

func quoted(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " \t"), ">") }

func blank(lines []string) bool { return strings.TrimSpace(strings.Join(lines, "")) == "" }

// attributed is where the attribution of what is quoted from line first on begins; not ok, and first, where it has none.
// Apple Mail quotes it as well.
func attributed(lines []string, first int) (begin int, ok bool) {
	end := first
	for end > 0 && strings.TrimSpace(lines[end-1]) == "" {
		end--
	}
	for n := 1; n <= 3 && end-n >= 0 && strings.TrimSpace(lines[end-n]) != ""; n++ {
		if isAttribution(lines[end-n : end]) {
			return end - n, true
		}
	}
	var inside []string
	for _, line := range lines[first:min(len(lines), first+3)] {
		if inside = append(inside, strings.TrimLeft(line, "> \t")); isAttribution(inside) {
			return first, true
		}
	}
	// In a language that is not known here it still ends in a colon, and has a date in it.
	if line := strings.TrimSpace(lines[max(end-1, 0)]); end > 0 && len(line) < 300 && strings.HasSuffix(line, ":") && strings.ContainsAny(line, "0123456789") {
		return end - 1, true
	}
	return first, false
}

func isAttribution(lines []string) bool {
	text := strings.TrimSpace(strings.Join(lines, " "))
	return len(text) < 700 && attribution.MatchString(text)
}

var originalMessage = regexp.MustCompile(`(?i)^\s*-{3,}\s*(original message|ursprüngliche nachricht|ursprungliche nachricht|originalnachricht|message d'origine|message original|mensaje original|messaggio originale|mensagem original|oorspronkelijk bericht|ursprungligt meddelande|opprinnelig melding|oprindelig meddelelse|alkuperäinen viesti|wiadomość oryginalna|původní zpráva|исходное сообщение|原始邮件|元のメッセージ)\s*-{3,}\s*$`)

// The first fields of what Outlook writes above what it quotes, in the order that it writes them.
var (
	outlookFrom = regexp.MustCompile(`(?i)^\s*\*?(from|von|de|da|van|från|fra|lähettäjä|od|feladó|от|发件人|寄件者|差出人|보낸 사람|kimden)\s*[:：]\*?\s*\S`)
	outlookNext = regexp.MustCompile(`(?i)^\s*\*?(sent|date|gesendet|datum|envoyé|enviado( el)?|fecha|inviato|data|verzonden|skickat|sendt|dato|lähetetty|päivämäärä|wysłano|odesláno|elküldve|отправлено|дата|发送时间|日期|送信日時|보낸 날짜|gönderildi|tarih|to|an|à|para|a|aan|till|til|vastaanottaja|do|komu|címzett|кому|收件人|宛先|받는 사람|kime|cc|kopie|subject|betreff|objet|asunto|oggetto|assunto|onderwerp|ämne|emne|aihe|temat|předmět|tárgy|тема|主题|主旨|件名|제목|konu)\s*[:：]\*?`)
)

// outlook is the line where Outlook's quotation begins, -1 for none: its separator, or a block of at least three of its
// fields. What follows is never new, but something new must stand before.
func outlook(lines []string) int {
	for i, line := range lines {
		if len(line) > 400 {
			continue
		}
		at := -1
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "---") && originalMessage.MatchString(line):
			at = i
		case named(line) && outlookFrom.MatchString(line):
			fields, rest := 1, lines[i+1:min(len(lines), i+8)]
			for _, next := range rest {
				if outlookNext.MatchString(next) {
					fields++
				} else if strings.TrimSpace(next) != "" && fields < 2 {
					break
				}
			}
			if fields >= 3 {
				at = i
			}
		}
		if at < 0 {
			continue
		}
		for at > 0 && (strings.TrimSpace(lines[at-1]) == "" || strings.Trim(strings.TrimSpace(lines[at-1]), "_-") == "") {
			at--
		}
		if blank(lines[:at]) {
			return -1
		}
		return at
	}
	return -1
}

// named tells a line that begins with a short name and a colon, as a field does. Most lines don't, and looking for all names
// in each takes longer than reading the mail.
func named(line string) bool {
	begin := line[:min(len(line), 48)]
	return strings.Contains(begin, ":") || strings.Contains(begin, "：")
}

// sentFrom is what telephones write under a mail.
var sentFrom = regexp.MustCompile(`(?i)^\s*(sent from (my|yahoo|outlook|mail for|the)\b.*|get outlook for .*|von meinem .+ gesendet.*|gesendet (von|mit) .+|envoyé (de|depuis|à partir de) .+|enviado (desde|do|de|a partir do) .+|inviato da(l| )?.+|verzonden vanaf .+|verstuurd vanaf .+|skickat från .+|sendt fra .+|lähetetty .+|wysłane z .+|wysłano z .+|odesláno z .+|отправлено (с|из) .+|iphone(から|から)送信.*|发自我的.+|從我的.+傳送)\s*$`)

// maxSignature is how many lines a signature has: what is longer is text.
const maxSignature = 15

// unsigned leaves out the signature at the end.
func unsigned(lines []string) []string {
	end := len(lines)
	for end > 0 && strings.TrimSpace(lines[end-1]) == "" {
		end--
	}
	for i := end - 1; i >= 0 && i >= end-1-maxSignature; i-- {
		if line := lines[i]; line == "-- " || line == "--" && end-i <= 8 {
			return lines[:i]
		}
	}
	if end > 0 && len(lines[end-1]) < 200 && sentFrom.MatchString(lines[end-1]) {
		return lines[:end-1]
	}
	return lines
}
