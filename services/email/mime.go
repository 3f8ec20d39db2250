package email

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/jhillyerd/enmime/v2"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/charmap"
)

// What is taken apart. A mail beyond it is kept whole instead: its parts are walked by recursion, and cost memory each.
//
//bound:limit parts that a mail is taken apart into | {maxNesting} multiparts, {maxDashes} lines that may begin one, {bytes maxHeader} of header | kept whole, as an attachment
const (
	maxNesting = 64
	maxDashes  = 10_000
	maxHeader  = 1 << 20
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
	root := parts(raw)
	if root == nil {
		l.undone = true
		return l, nil
	}
	l.report = reportOf(root)
	var w walk
	w.part(root)
	l.text, l.html, l.files = clean(strings.Join(w.text, "\n")), clean(strings.Join(w.html, "\n")), w.files
	return l, nil
}

// headerOf reads the fields at the beginning of raw; not ok where it begins with none.
func headerOf(raw []byte) (textproto.MIMEHeader, bool) {
	end := len(raw)
	for _, empty := range []string{"\n\r\n", "\n\n"} {
		if at := bytes.Index(raw[:min(len(raw), maxHeader)], []byte(empty)); at >= 0 && at+1 < end {
			end = at + 1
		}
	}
	if end == len(raw) && end > maxHeader {
		return nil, false
	}
	if bytes.HasPrefix(raw, []byte("From ")) { // a mailbox file's separator
		if at := bytes.IndexByte(raw[:end], '\n'); at >= 0 {
			raw, end = raw[at+1:], end-at-1
		}
	}
	header := textproto.MIMEHeader{}
	var name, value string
	flush := func() {
		if name != "" {
			header.Add(name, strings.TrimSpace(value))
		}
		name, value = "", ""
	}
	for line := range strings.Lines(string(raw[:end])) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && (line[0] == ' ' || line[0] == '\t') {
			value += " " + strings.TrimSpace(line)
			continue
		}
		flush()
		before, after, ok := strings.Cut(line, ":")
		if before = strings.TrimSpace(before); ok && fieldName(before) {
			name, value = before, after
		}
	}
	flush()
	return header, len(header) > 0
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

// parts of a mail; nil where it can't be taken apart.
func parts(raw []byte) *enmime.Part {
	if bytes.Count(lowered(raw), []byte("boundary")) > maxNesting || bytes.Count(raw, []byte("\n--")) > maxDashes {
		return nil
	}
	//bound:limit errors kept of one part that can't be read | {} | the others are dropped
	parser := enmime.NewParser(enmime.SkipMalformedParts(true), enmime.MultipartWOBoundaryAsSinglePart(true), enmime.MaxStoredPartErrors(8),
		enmime.StripMediaTypeInvalidCharacters(true), enmime.SetReadPartErrorPolicy(enmime.AllowCorruptTextPartErrorPolicy))
	root, err := parser.ReadParts(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	return root
}

// lowered is raw in lower case, byte by byte.
func lowered(raw []byte) []byte {
	out := make([]byte, len(raw))
	for i, c := range raw {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return out
}

// walk gathers bodies and files of a mail's parts.
type walk struct {
	text, html []string
	files      []file
}

// part and all below it, which parts has bounded.
func (w *walk) part(p *enmime.Part) {
	if p.FirstChild == nil && !strings.HasPrefix(p.ContentType, "multipart/") {
		w.leaf(p)
		return
	}
	if p.ContentType != "multipart/alternative" {
		for c := p.FirstChild; c != nil; c = c.NextSibling {
			w.part(c)
		}
		return
	}
	// Each alternative says the same: the first text and the first HTML are enough, files are kept from all.
	var text, html []string
	for c := p.FirstChild; c != nil; c = c.NextSibling {
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

func (w *walk) leaf(p *enmime.Part) {
	body := p.Disposition != "attachment" && p.FileName == ""
	switch {
	case p.ContentType == "message/delivery-status" || p.ContentType == "message/feedback-report" || p.ContentType == "text/rfc822-headers":
		w.file(p) // what reportOf reads is kept as well
	case body && (p.ContentType == "text/plain" || p.ContentType == "") && !broken(p):
		if text := decoded(p); strings.TrimSpace(text) != "" {
			if params := contentParams(p); strings.EqualFold(params["format"], "flowed") {
				text = unflowed(text, strings.EqualFold(params["delsp"], "yes"))
			}
			w.text = append(w.text, strings.ReplaceAll(text, "\r\n", "\n"))
		}
	case body && p.ContentType == "text/html" && !broken(p):
		if html := decoded(p); strings.TrimSpace(html) != "" {
			w.html = append(w.html, html)
		}
	default:
		w.file(p)
	}
}

func (w *walk) file(p *enmime.Part) {
	contentType := p.ContentType
	if contentType == "" || !strings.Contains(contentType, "/") {
		contentType = "application/octet-stream"
	}
	w.files = append(w.files, file{name: clean(p.FileName), contentType: clean(contentType), contentID: clean(p.ContentID), data: p.Content})
}

// broken tells a body whose transfer encoding is not known: what is there is no text yet.
func broken(p *enmime.Part) bool {
	for _, e := range p.Errors {
		if e.Name == enmime.ErrorContentEncoding {
			return true
		}
	}
	return false
}

// decoded text of a part. enmime trusts the charset that a short part states; two lies are common enough to be found out:
// UTF-8 that is called something else, and nothing said about what is not UTF-8.
func decoded(p *enmime.Part) string {
	text := string(p.Content)
	if !utf8.ValidString(text) {
		return windows1252(text)
	}
	if p.OrigCharset != "" || p.Charset == "" || strings.EqualFold(p.Charset, "utf-8") || isASCII(text) {
		return text
	}
	for _, said := range []*charmap.Charmap{charmap.ISO8859_1, charmap.Windows1252} {
		if back, err := said.NewEncoder().String(text); err == nil && utf8.ValidString(back) {
			return back
		}
	}
	return text
}

func windows1252(text string) string {
	out, err := charmap.Windows1252.NewDecoder().String(text)
	if err != nil {
		return clean(text)
	}
	return out
}

func isASCII(text string) bool {
	for _, c := range []byte(text) {
		if c > 127 {
			return false
		}
	}
	return true
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
		if _, ok := address(word); ok {
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

func charsetReader(label string, input io.Reader) (io.Reader, error) {
	return charset.NewReaderLabel(label, input)
}

// legible is an 8-bit field: UTF-8 (RFC 6532), else what most take it for.
func legible(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	return windows1252(value)
}

// contentParams of a part's own Content-Type; enmime keeps the ones it needs.
func contentParams(p *enmime.Part) map[string]string {
	_, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil {
		return nil
	}
	return params
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
