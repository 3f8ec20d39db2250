package email

import (
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// slimmed is a page without what is never shown of it and makes pages long: comments, styles, scripts, and what is written
// into attributes, as images are. One that fits an event is not slimmed, but kept as it came.
func slimmed(page string) string {
	//bound:limit one attribute in HTML that is too long for its event | {bytes} | it is left out
	const maxAttribute = 4 << 10
	var out strings.Builder
	var hidden atom.Atom
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := z.Next()
		switch kind {
		case html.ErrorToken:
			return out.String()
		case html.CommentToken:
			continue
		case html.TextToken:
			if hidden == 0 {
				out.Write(z.Raw())
			}
			continue
		}
		t := z.Token()
		if t.DataAtom == atom.Script || t.DataAtom == atom.Style {
			if hidden = 0; kind == html.StartTagToken {
				hidden = t.DataAtom
			}
			continue
		}
		t.Attr = slices.DeleteFunc(t.Attr, func(a html.Attribute) bool { return len(a.Val) > maxAttribute })
		out.WriteString(t.String())
	}
}

// textOf is the text of HTML: blocks are lines, and a quotation has the marks that it would have in a plain mail.
func textOf(page string) string {
	t := &texts{}
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.TrimSpace(t.out.String() + t.rest())
		case html.TextToken:
			t.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			t.open(atom.Lookup(name), z, more)
		case html.EndTagToken:
			name, _ := z.TagName()
			t.close(atom.Lookup(name))
		}
	}
}

// texts gathers lines of text.
//
//bound:exempt the text of one mail
type texts struct {
	out    strings.Builder
	line   strings.Builder
	quotes int
	pre    int
	hidden atom.Atom // the element whose text is none; 0: none
	empty  int       // empty lines at the end
	cell   bool
}

// maxQuotes is how deep quotations are marked.
const maxQuotes = 20

func (t *texts) text(text string) {
	if t.hidden != 0 {
		return
	}
	if t.pre > 0 {
		for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
			if i > 0 {
				t.end(true)
			}
			t.line.WriteString(line)
		}
		return
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\f' })
	if space := len(text) > 0 && strings.ContainsAny(text[:1], " \t\r\n"); space && t.line.Len() > 0 && !strings.HasSuffix(t.line.String(), " ") {
		t.line.WriteByte(' ')
	}
	t.line.WriteString(strings.Join(words, " "))
	if n := len(text); len(words) > 0 && strings.ContainsAny(text[n-1:], " \t\r\n") {
		t.line.WriteByte(' ')
	}
}

// end a line. An empty one counts where keep says so, and never twice in a row.
func (t *texts) end(keep bool) {
	line := strings.TrimRight(t.rest(), " ")
	if strings.Trim(line, "> ") == "" {
		if !keep || t.empty > 0 || t.out.Len() == 0 {
			return
		}
		t.empty++
	} else {
		t.empty = 0
	}
	t.out.WriteString(line + "\n")
}

// rest is the line so far, with its marks.
func (t *texts) rest() string {
	line := strings.ReplaceAll(t.line.String(), "\u00a0", " ")
	t.line.Reset()
	if t.quotes > 0 {
		return strings.Repeat(">", min(t.quotes, maxQuotes)) + " " + line
	}
	return line
}

func (t *texts) open(a atom.Atom, z *html.Tokenizer, attributes bool) {
	if t.hidden != 0 {
		return
	}
	switch a {
	case atom.Script, atom.Style, atom.Head, atom.Title, atom.Noscript, atom.Template, atom.Object, atom.Svg:
		t.end(false)
		t.hidden = a
	case atom.Br:
		t.end(true)
	case atom.Hr:
		t.end(false)
		t.line.WriteString("________________________________")
		t.end(false)
	case atom.Blockquote:
		t.end(false)
		t.quotes++
	case atom.Pre:
		t.end(false)
		t.pre++
	case atom.P:
		t.end(false)
		t.end(true)
	case atom.Li:
		t.end(false)
		t.line.WriteString("- ")
	case atom.Td, atom.Th:
		if t.cell && t.line.Len() > 0 {
			t.line.WriteByte(' ')
		}
		t.cell = true
	case atom.Img:
		for attributes {
			var key, value []byte
			if key, value, attributes = z.TagAttr(); string(key) == "alt" && len(value) > 0 {
				t.line.WriteString("[" + string(value) + "]")
			}
		}
	default:
		if block(a) {
			t.end(false)
		}
	}
}

func (t *texts) close(a atom.Atom) {
	if t.hidden != 0 {
		if t.hidden == a {
			t.hidden = 0
		}
		return
	}
	switch a {
	case atom.Blockquote:
		t.end(false)
		t.quotes = max(t.quotes-1, 0)
	case atom.Pre:
		t.end(false)
		t.pre = max(t.pre-1, 0)
	case atom.P:
		t.end(false)
		t.end(true)
	case atom.Tr:
		t.end(false)
		t.cell = false
	default:
		if block(a) {
			t.end(false)
		}
	}
}

func block(a atom.Atom) bool {
	switch a {
	case atom.Div, atom.Table, atom.Tr, atom.Ul, atom.Ol, atom.Li, atom.Dl, atom.Dt, atom.Dd, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6,
		atom.Section, atom.Article, atom.Header, atom.Footer, atom.Address, atom.Body, atom.Html, atom.Center, atom.Form, atom.Fieldset, atom.Figure:
		return true
	}
	return false
}
