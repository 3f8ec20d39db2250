package email

import (
	"bytes"
	"errors"
	"mime"
	"net/mail"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/jhillyerd/enmime/v2"
)

var errNoMail = errors.New("email: the body is no mail")

// readMail reads RFC 5322 as it is in the wild. An error: there is no header at all.
func readMail(raw []byte) (*letter, error) {
	header, ok := headerOf(raw)
	if !ok {
		return nil, errNoMail
	}
	l := &letter{header: header, whole: raw}
	l.envelope()
	root, ok := takenApart(raw)
	if !ok {
		l.undone = true
		return l, nil
	}
	l.report = reportOf(root)
	var w walk
	w.part(root)
	l.text, l.html, l.files = clean(strings.Join(w.text, "\n")), clean(strings.Join(w.html, "\n")), w.files
	return l, nil
}

// maxHeader of a mail: one that is longer is none.
const maxHeader = 1 << 20

// headerOf reads the fields at the beginning of raw; not ok where it begins with none.
func headerOf(raw []byte) (textproto.MIMEHeader, bool) {
	head, _ := cutHeader(raw)
	if len(head) > maxHeader {
		return nil, false
	}
	header := textproto.MIMEHeader{}
	var name string
	var value strings.Builder
	flush := func() {
		if name != "" {
			header.Add(name, strings.TrimSpace(value.String()))
		}
		name = ""
		value.Reset()
	}
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && (line[0] == ' ' || line[0] == '\t') {
			value.WriteString(" " + strings.TrimSpace(line))
			continue
		}
		flush()
		before, after, ok := strings.Cut(line, ":")
		if before = strings.TrimSpace(before); ok && fieldName(before) {
			name = before
			value.WriteString(after)
		}
	}
	flush()
	return header, len(header) > 0
}

// cutHeader at the first empty line. Without one all is header where it begins with a field, else nothing is. A mailbox
// file's separator ("From ") is left out.
func cutHeader(raw []byte) (head, body []byte) {
	if bytes.HasPrefix(raw, []byte("From ")) {
		if at := bytes.IndexByte(raw, '\n'); at >= 0 {
			raw = raw[at+1:]
		}
	}
	for at := 0; at < len(raw); {
		line := raw[at:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end+1]
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return raw[:at], raw[at+len(line):]
		}
		at += len(line)
	}
	if name, _, ok := bytes.Cut(raw[:min(len(raw), 256)], []byte(":")); ok && fieldName(strings.TrimSpace(string(name))) {
		return raw, nil
	}
	return nil, raw
}

// fieldName tells a field's name (RFC 5322, 2.2).
func fieldName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return name != "" && len(name) < 128
}

// walk gathers bodies and files of a mail's parts.
//
//bound:exempt what one mail holds
type walk struct {
	text, html []string
	files      []file
}

// part and all below it, which takenApart has bounded.
func (w *walk) part(p *part) {
	switch {
	case len(p.children) == 0:
		w.leaf(p)
	case p.contentType != "multipart/alternative":
		for _, c := range p.children {
			w.part(c)
		}
	default:
		w.alternatives(p.children)
	}
}

// alternatives say the same: the first text and the first HTML are enough, files are kept from all.
func (w *walk) alternatives(all []*part) {
	var text, html []string
	for _, c := range all {
		var one walk
		one.part(c)
		if len(text) == 0 {
			text = one.text
		}
		if len(html) == 0 {
			html = one.html
		}
		w.files = append(w.files, one.files...)
	}
	w.text, w.html = append(w.text, text...), append(w.html, html...)
}

func (w *walk) leaf(p *part) {
	body := p.disposition != "attachment" && p.name == "" && !p.encoded
	switch {
	case body && (p.contentType == "text/plain" || p.contentType == ""):
		if text := decoded(p.content, p.params["charset"], false); strings.TrimSpace(text) != "" {
			text = strings.ReplaceAll(text, "\r\n", "\n")
			if strings.EqualFold(p.params["format"], "flowed") {
				text = unflowed(text, strings.EqualFold(p.params["delsp"], "yes"))
			}
			w.text = append(w.text, text)
		}
	case body && p.contentType == "text/html":
		if html := decoded(p.content, p.params["charset"], true); strings.TrimSpace(html) != "" {
			w.html = append(w.html, html)
		}
	default:
		contentType := p.contentType
		if !strings.Contains(contentType, "/") {
			contentType = "application/octet-stream"
		}
		w.files = append(w.files, file{name: clean(p.name), contentType: clean(contentType), contentID: clean(p.contentID), data: p.content})
	}
}

// envelope reads what the header says.
func (l *letter) envelope() {
	if ids := messageIDs(l.header.Get("Message-Id")); len(ids) > 0 {
		l.messageID = ids[0]
	}
	l.inReplyTo = messageIDs(l.header.Get("In-Reply-To"))
	l.references = messageIDs(strings.Join(l.header.Values("References"), " "))
	l.subject = words(l.header.Get("Subject"))
	l.date = clean(strings.TrimSpace(l.header.Get("Date")))
	for _, field := range []string{"From", "Sender"} {
		for _, a := range addresses(l.header.Get(field)) {
			if address, ok := address(a.Address); ok && l.from == "" {
				l.from, l.fromName = address, cut(strings.TrimSpace(a.Name), maxName)
			}
		}
	}
	for _, field := range []string{"To", "Cc", "Delivered-To", "X-Original-To", "Envelope-To"} {
		for _, value := range l.header.Values(field) {
			l.to = append(l.to, addressesOf(addresses(value))...)
		}
	}
	if path, ok := l.header["Return-Path"]; ok && strings.Join(strings.Fields(path[0]), "") == "<>" {
		l.nullSender = true
	}
}

// addresses of a field, as far as it can be read.
func addresses(value string) []*mail.Address {
	value = legible(value)
	if list, err := enmime.ParseAddressList(value); err == nil {
		for _, a := range list {
			a.Name = clean(a.Name)
		}
		return list
	}
	// What stands in the last brackets is the address, whatever is before them.
	start, end := strings.LastIndexByte(value, '<'), strings.LastIndexByte(value, '>')
	if start >= 0 && end > start {
		return []*mail.Address{{Name: strings.Trim(words(value[:start]), `" `), Address: value[start+1 : end]}}
	}
	for _, word := range strings.Fields(value) {
		address, ok := address(word)
		if _, domain, _ := cutAddress(address); ok && strings.Contains(domain, ".") {
			return []*mail.Address{{Address: word}}
		}
	}
	return nil
}

// words of a field with its encoded words (RFC 2047) decoded.
func words(value string) string {
	decoder := mime.WordDecoder{CharsetReader: charsetReader}
	text, err := decoder.DecodeHeader(legible(value))
	if err != nil {
		text = legible(value)
	}
	return strings.Join(strings.Fields(clean(text)), " ")
}

// legible is an 8-bit field: UTF-8 (RFC 6532), else what most take it for.
func legible(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	return windows1252([]byte(value))
}

// unflowed joins the lines of format=flowed (RFC 3676): one that ends in a space goes on in the next of the same
// quoting. "-- " is a signature's own line.
func unflowed(text string, delSp bool) string {
	var out strings.Builder
	open, depth := false, 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		quotes := 0
		for quotes < len(line) && line[quotes] == '>' {
			quotes++
		}
		body := strings.TrimPrefix(line[quotes:], " ")
		if open && (quotes != depth || body == "-- ") {
			out.WriteByte('\n')
			open = false
		}
		if !open && quotes > 0 {
			out.WriteString(strings.Repeat(">", quotes) + " ")
		}
		depth = quotes
		open = strings.HasSuffix(body, " ") && body != "-- "
		if open && delSp {
			body = strings.TrimSuffix(body, " ")
		}
		out.WriteString(body)
		if !open {
			out.WriteByte('\n')
		}
	}
	return out.String()
}
