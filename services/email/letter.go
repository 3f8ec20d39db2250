package email

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"net/textproto"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tributary.dev/libs/channel"
)

// letter is one mail, whichever way it came. Its texts are valid UTF-8 without NUL.
//
//bound:exempt what one mail holds
type letter struct {
	header textproto.MIMEHeader
	// messageID, inReplyTo and references, without their brackets; references are the oldest first.
	messageID             string
	inReplyTo, references []string
	// from is empty where the mail names no sender.
	from, fromName string
	subject, date  string
	// to are all addresses that it went to, as far as it says; tags and all.
	to         []string
	text, html string
	files      []file
	// report is what a multipart/report says; nil for any other mail.
	report *report
	// whole is the mail as it came; nil where it did not come as one.
	whole []byte
	// undone: the mail could not be taken apart, and is kept whole.
	undone bool
	// nullSender: it came with an empty return path, as what machines say of mail does.
	nullSender bool
	// technical facts about its delivery.
	technical map[string]string
}

// file is a part that is no body.
type file struct {
	name, contentType, contentID string
	data                         []byte
}

// kind of attachment.
func (f file) kind() string {
	major, _, _ := strings.Cut(f.contentType, "/")
	switch major {
	case "image", "audio", "video":
		return major
	}
	return "file"
}

// digest of what a mail holds. Space does not count: each way has its own idea of line ends. Files do, in any order, so
// that two scans of one second are two mails.
func (l *letter) digest() string {
	if l.undone {
		return hashed(l.whole)
	}
	text := l.text
	if text == "" {
		text = l.html
	}
	words := sha256.New()
	gathered := bufio.NewWriter(words)
	for word := range strings.FieldsSeq(text) {
		_, _ = gathered.WriteString(word) // a hash takes everything
		_ = gathered.WriteByte(' ')
	}
	_ = gathered.Flush()
	parts := []string{hex.EncodeToString(words.Sum(nil))}
	for _, f := range l.files {
		parts = append(parts, hashed(f.data))
	}
	slices.Sort(parts[1:])
	return hashed([]byte(strings.Join(parts, "")))
}

func hashed(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// What of a mail an event carries, which may have 768 KiB in all. What is longer is cut, and kept whole as an attachment.
const (
	//bound:limit text, HTML and names of one mail in its event | {bytes maxText} of new text, {bytes maxFull} of the whole, {bytes maxHTML} of HTML | cut, and kept whole as an attachment
	maxText       = 96 << 10
	maxFull       = 192 << 10
	maxHTML       = 224 << 10
	maxPage       = 4 << 20 // of HTML as it came: most of it may be images that are written into it
	maxSubject    = 2 << 10
	maxName       = 255
	maxID         = 998
	maxReferences = 60
	maxFiles      = 100
)

// content of the letter, bounded.
func (l *letter) content() *channel.Content {
	full, html, keepWhole := l.text, l.html, l.undone
	if full == "" && l.html != "" {
		full = textOf(cut(l.html, maxPage))
	}
	if len(html) > maxHTML && len(html) <= maxPage {
		html = slimmed(html)
	}
	if len(html) > maxHTML {
		html, keepWhole = "", true // a half of it would be another page
	}
	if len(full) > maxFull {
		full, keepWhole = cut(full, maxFull), true
	}
	full = strings.TrimSpace(full)
	text := newText(full, l.subject)
	if len(text) > maxText {
		text, keepWhole = cut(text, maxText), true
	}
	c := &channel.Content{Text: text, HTML: html, Subject: cut(l.subject, maxSubject), MailID: l.messageID, References: bounded(l.references)}
	if text != full {
		c.FullText = full
	}
	files := l.files
	if len(files) > maxFiles {
		files, keepWhole = files[:maxFiles], true
	}
	c.Attachments = attachments(files)
	if keepWhole {
		c.Attachments = append(c.Attachments, l.kept()...)
	}
	return c
}

// kept is what of the letter was too long to be carried, as attachments: the mail itself where it came as one.
func (l *letter) kept() (all []channel.Attachment) {
	add := func(ref, name, contentType string, data []byte) {
		if len(data) > 0 {
			all = append(all, channel.Attachment{Ref: ref, Kind: "file", Name: name, ContentType: contentType, Size: int64(len(data)), Data: data})
		}
	}
	if l.whole != nil {
		add("whole", "message.eml", "message/rfc822", l.whole)
		return all
	}
	add("text", "message.txt", "text/plain", []byte(l.text))
	add("html", "message.html", "text/html", []byte(l.html))
	for i, f := range l.files[min(len(l.files), maxFiles):] {
		all = append(all, f.attachment(strconv.Itoa(maxFiles+i)))
	}
	return all
}

// attachments with a Ref each: "cid:" and the content id of those that the HTML may show, else their place.
func attachments(files []file) []channel.Attachment {
	var all []channel.Attachment
	taken := map[string]bool{}
	for i, f := range files {
		ref := strconv.Itoa(i)
		if cid := "cid:" + f.contentID; f.contentID != "" && len(cid) <= maxName && !taken[cid] {
			ref = cid
		}
		taken[ref] = true
		all = append(all, f.attachment(ref))
	}
	return all
}

func (f file) attachment(ref string) channel.Attachment {
	data := f.data
	if data == nil {
		data = []byte{} // an empty file is one
	}
	return channel.Attachment{Ref: ref, Kind: f.kind(), Name: fileName(f), ContentType: f.contentType, Size: int64(len(data)), Data: data}
}

// fileName of a part, without what leads elsewhere; made up where it has none.
func fileName(f file) string {
	name := strings.TrimSpace(path.Base(strings.ReplaceAll(f.name, `\`, "/")))
	if name == "" || name == "." || name == ".." || name == "/" {
		name = "unnamed" + extension(f.contentType)
	}
	if len(name) > maxName { // the end tells what it is
		ext := path.Ext(name)
		if len(ext) > 16 {
			ext = ""
		}
		name = cut(name, maxName-len(ext)) + ext
	}
	return name
}

// extension of a nameless file, so that it can be opened: the same on every machine.
func extension(contentType string) string {
	switch contentType {
	case "image/png", "image/gif", "image/webp", "application/pdf", "text/html", "text/csv", "application/zip":
		_, minor, _ := strings.Cut(contentType, "/")
		return "." + minor
	case "image/jpeg", "image/jpg":
		return ".jpg"
	case "text/plain", "message/delivery-status", "message/feedback-report", "text/rfc822-headers":
		return ".txt"
	case "text/calendar":
		return ".ics"
	case "message/rfc822":
		return ".eml"
	}
	return ""
}

// bounded references: the first, which names the thread, and the newest.
func bounded(ids []string) []string {
	if len(ids) > maxReferences {
		return append(ids[:1:1], ids[len(ids)-maxReferences+1:]...)
	}
	return ids
}

// cut text to n bytes, at a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

// clean makes valid UTF-8 without NUL of text.
func clean(text string) string {
	if !utf8.ValidString(text) { // telling it is many times as fast as mending it
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ReplaceAll(text, "\x00", "\uFFFD")
}

// messageIDs of a header field, without brackets. Some write them without, or with comments between.
func messageIDs(value string) (ids []string) {
	add := func(id string) {
		if id = strings.Join(strings.Fields(id), ""); id != "" && len(id) <= maxID && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	rest := value
	for len(ids) < 1000 {
		start := strings.IndexByte(rest, '<')
		if start < 0 {
			break
		}
		end := strings.IndexByte(rest[start:], '>')
		if end < 0 {
			break
		}
		add(rest[start+1 : start+end])
		rest = rest[start+end+1:]
	}
	if len(ids) == 0 {
		for _, word := range strings.Fields(strings.NewReplacer("<", " ", ">", " ", ",", " ").Replace(value)) {
			if strings.Contains(word, "@") && len(ids) < 1000 {
				add(word)
			}
		}
	}
	return ids
}

// address normalised: lower case, without space; not ok where it is none that could be written to.
func address(text string) (string, bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	local, domain, ok := cutAddress(text)
	if !ok || len(text) > 320 || strings.ContainsAny(text, " \t\r\n\x00<>\uFFFD") || strings.ContainsAny(domain, "@,;:()\"") {
		return "", false
	}
	return local + "@" + domain, true
}

// untagged is an address without its tag ("+…").
func untagged(address string) string {
	local, domain, ok := cutAddress(address)
	if !ok {
		return address
	}
	if base, _, tagged := strings.Cut(local, "+"); tagged && base != "" {
		return base + "@" + domain
	}
	return address
}

func identity(address string) *channel.Identity {
	return &channel.Identity{Kind: "email", Value: address}
}

func addressesOf(list []*mail.Address) (all []string) {
	for _, a := range list {
		if address, ok := address(a.Address); ok {
			all = append(all, address)
		}
	}
	return all
}

func decimal(n int32) string { return strconv.FormatInt(int64(n), 10) }

func number(s string) (int32, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int32(n), err == nil && n >= 0
}
