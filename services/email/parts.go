package email

import (
	"bytes"
	"io"
	"net/textproto"
	"strings"

	"github.com/jhillyerd/enmime/v2"
	"github.com/jhillyerd/enmime/v2/mediatype"
)

// What a mail is taken apart into. One beyond it is kept whole instead.
const (
	//bound:limit parts of one mail | {} | the mail is kept whole, as an attachment
	maxParts = 5_000
	//bound:limit multiparts in multiparts | {} | the mail is kept whole, as an attachment
	maxNesting = 64
)

// part of a mail: a multipart with children, or a leaf with content.
type part struct {
	contentType string
	params      map[string]string
	children    []*part

	disposition, name, contentID string
	// content is what the transfer encoding hid, its characters as they are; encoded: that encoding is not known.
	content []byte
	encoded bool
}

// takenApart finds a mail's parts. Boundaries are looked for here, where a part is a piece of the mail: enmime reads byte
// by byte through each multipart that a part is in. It decodes the leaves. Not ok where there is too much, or a
// multipart that has no part.
func takenApart(raw []byte) (root *part, ok bool) {
	n := 0
	return apart(raw, "text/plain", 0, &n)
}

func apart(raw []byte, otherwise string, depth int, n *int) (*part, bool) {
	if *n++; *n > maxParts || depth > maxNesting {
		return nil, false
	}
	head, body := cutHeader(raw)
	if len(head) > maxHeader {
		return nil, false
	}
	header, _ := headerOf(raw)
	p := &part{contentType: otherwise}
	if field := header.Get("Content-Type"); field != "" {
		p.contentType, p.params = typeOf(field)
	}
	boundary := p.params["boundary"]
	if !strings.HasPrefix(p.contentType, "multipart/") || boundary == "" {
		p.decode(header, body)
		return p, true
	}
	otherwise = "text/plain"
	if p.contentType == "multipart/digest" {
		otherwise = "message/rfc822"
	}
	for _, piece := range pieces(body, boundary) {
		child, ok := apart(piece, otherwise, depth+1, n)
		if !ok {
			return nil, false
		}
		p.children = append(p.children, child)
	}
	if len(p.children) == 0 && depth > 0 { // what it holds may be text
		p.contentType, p.params = "text/plain", nil
		p.decode(header, body)
		return p, true
	}
	return p, len(p.children) > 0
}

// typeOf a Content-Type field, and its parameters. What can't be read is no type.
func typeOf(field string) (contentType string, params map[string]string) {
	contentType, params, _, err := mediatype.ParseWithOptions(field, mediatype.ParseOptions{StripMediaTypeInvalidCharacters: true})
	if err != nil {
		return "application/octet-stream", nil
	}
	return strings.ToLower(contentType), params
}

// pieces between the delimiters of a multipart (RFC 2046, 5.1.1). One whose end is missing has all that there is.
func pieces(body []byte, boundary string) (all [][]byte) {
	delimiter := []byte("--" + boundary)
	start := -1
	for at := 0; ; {
		if bytes.HasPrefix(body[at:], delimiter) {
			line, rest := body[at+len(delimiter):], []byte(nil)
			if end := bytes.IndexByte(line, '\n'); end >= 0 {
				line, rest = line[:end], line[end+1:]
			}
			mark := string(bytes.TrimSpace(line))
			last := strings.HasPrefix(mark, "--")
			if last || mark == "" {
				if start >= 0 {
					all = append(all, withoutEnd(body[start:at]))
				}
				if last || len(all) > maxParts {
					return all
				}
				start = len(body) - len(rest)
			}
		}
		next := bytes.Index(body[at:], []byte("\n--"))
		if next < 0 {
			break
		}
		at += next + 1
	}
	if start >= 0 && start < len(body) {
		all = append(all, body[start:])
	}
	return all
}

// withoutEnd is a piece without the line end that belongs to the delimiter behind it.
func withoutEnd(piece []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(piece, []byte("\n")), []byte("\r"))
}

// decode a leaf by the fields that say how.
func (p *part) decode(header textproto.MIMEHeader, body []byte) {
	p.content = body
	p.name = words(p.params["name"])
	content, ok := transferred(header.Get("Content-Transfer-Encoding"), body)
	switch {
	case !ok:
		p.patiently(header, body, true)
	case header.Get("Content-Disposition") != "" || header.Get("Content-Id") != "":
		p.patiently(header, nil, false)
		p.content = content
	default:
		p.content = content
	}
}

// asIs stands before the type of a text while enmime decodes it, which then leaves its characters as they are: it would
// believe the charset that is stated, and look for one in every long text.
const asIs = "x-as-is-"

// patiently has enmime read a leaf's fields, and its body where that is encoded as nobody should. What enmime can't read
// is kept as it is.
func (p *part) patiently(header textproto.MIMEHeader, body []byte, encoded bool) {
	names := []string{"Content-Disposition", "Content-Id", "Content-Transfer-Encoding"}
	if !encoded {
		names = names[:2]
	}
	defer func() { _ = recover() }() // a mail that makes it panic would come again for ever
	var fields strings.Builder
	fields.WriteString("Content-Type: " + asIs + "text/plain\r\n")
	for _, name := range names {
		if value := header.Get(name); value != "" {
			fields.WriteString(name + ": " + value + "\r\n")
		}
	}
	parser := enmime.NewParser(enmime.MaxStoredPartErrors(8), enmime.SetReadPartErrorPolicy(func(_ *enmime.Part, err error) bool { return enmime.IsBase64CorruptInputError(err) }))
	leaf, err := parser.ReadParts(io.MultiReader(strings.NewReader(fields.String()+"\r\n"), bytes.NewReader(body)))
	if err != nil {
		p.encoded = true
		return
	}
	p.disposition, p.contentID, p.content = strings.ToLower(leaf.Disposition), leaf.ContentID, leaf.Content
	if leaf.FileName != "" {
		p.name = leaf.FileName
	}
	for _, e := range leaf.Errors {
		p.encoded = p.encoded || e.Name == enmime.ErrorContentEncoding
	}
}
