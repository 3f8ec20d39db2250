package api

import (
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
)

// htmlPolicy is what is shown of a message's HTML: text and its shape, links that tell nobody where they were followed
// from, and the images that came along (cid:). Everything else that would be fetched, run or sent is gone, remote
// images among it: they tell their sender who read the mail, when and where.
var htmlPolicy = sync.OnceValue(func() *bluemonday.Policy {
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
	p.AllowAttrs("style").Matching(plainStyle).Globally()
	return p
})

// sanitised is a message's HTML as it may be shown beside a member's session. Messages are kept as they came and pass here
// whenever they leave: what the policy learns protects from old ones as well.
func sanitised(page string) string {
	return strings.TrimSpace(htmlPolicy().Sanitize(plainlyStyled(page))) //nolint:misspell // the library's word
}
