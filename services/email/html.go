package email

import (
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// policy is what is shown of a mail's HTML: text and its shape, links that tell nobody where they were followed
// from, and the images that came with the mail (cid:). Everything else that would be fetched, run or sent is gone, remote
// images among it: they tell their sender who read the mail, when and where.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "address", "article", "aside", "b", "bdi", "bdo", "big", "blockquote", "br", "caption", "center", "cite", "code",
		"col", "colgroup", "dd", "del", "details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "font", "footer", "h1", "h2", "h3", "h4", "h5",
		"h6", "header", "hr", "i", "img", "ins", "kbd", "li", "main", "mark", "nav", "ol", "p", "pre", "q", "s", "samp", "section", "small", "span",
		"strike", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "time", "tr", "tt", "u", "ul", "var", "wbr")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto", "tel", "cid")
	p.RequireParseableURLs(true)
	p.RequireNoReferrerOnLinks(true)
	p.RequireNoFollowOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	p.AllowAttrs("src").Matching(regexp.MustCompile(`^(?i)cid:[^\s"'<>]{1,255}$`)).OnElements("img")
	p.AllowAttrs("alt", "title").OnElements("img")
	p.AllowAttrs("width", "height").Matching(regexp.MustCompile(`^[0-9]{1,4}%?$`)).OnElements("img", "table", "td", "th", "col", "colgroup")
	p.AllowAttrs("colspan", "rowspan", "cellpadding", "cellspacing", "border").Matching(bluemonday.Integer).OnElements("table", "td", "th")
	p.AllowAttrs("align", "valign").Matching(bluemonday.Paragraph).OnElements("table", "tr", "td", "th", "p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "img")
	p.AllowAttrs("dir").Matching(regexp.MustCompile(`^(?i)(ltr|rtl|auto)$`)).Globally()
	p.AllowAttrs("lang").Matching(regexp.MustCompile(`^[A-Za-z-]{1,35}$`)).Globally()
	p.AllowAttrs("color", "face", "size").Matching(regexp.MustCompile(`^[#A-Za-z0-9 ,+-]{1,64}$`)).OnElements("font")
	p.AllowAttrs("bgcolor").Matching(regexp.MustCompile(`^[#A-Za-z0-9]{1,32}$`)).OnElements("table", "tr", "td", "th")
	p.AllowAttrs("type").Matching(regexp.MustCompile(`^(?i)(cite|disc|circle|square|[1aiAI])$`)).OnElements("blockquote", "ul", "ol", "li")
	plain := regexp.MustCompile(`^[#A-Za-z0-9 ,.%"'()+-]{1,200}$`)
	p.AllowStyles("color", "background-color", "font-weight", "font-style", "font-size", "font-family", "text-align", "text-decoration", "line-height",
		"vertical-align", "white-space", "list-style-type", "border", "border-collapse", "padding", "padding-left", "margin", "margin-left", "width",
		"max-width").MatchingHandler(func(value string) bool {
		lower := strings.ToLower(value)
		return plain.MatchString(value) && !strings.Contains(lower, "url") && !strings.Contains(lower, "expression") && !strings.Contains(lower, "image")
	}).Globally()
	return p
})

// sanitised is HTML that may be shown beside a member's session.
func sanitised(page string) string {
	return strings.TrimSpace(policy().Sanitize(page)) //nolint:misspell // the library's word
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
