package api

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// plainProperties may be styled: what text looks like and how it is laid out where it stands. None takes it elsewhere.
var plainProperties = []string{"background-color", "border", "border-collapse", "color", "font-family", "font-size", "font-style", "font-weight",
	"line-height", "list-style-type", "margin", "margin-left", "max-width", "padding", "padding-left", "text-align", "text-decoration",
	"vertical-align", "white-space", "width"}

// plainStyle is all that a style attribute may be: declarations as plainDeclarations writes them. Nothing in them can fetch, run or
// end the attribute: the only parentheses are those of rgb() and rgba().
var plainStyle = func() *regexp.Regexp {
	declaration := `(?:` + strings.Join(plainProperties, "|") + `): (?:[#A-Za-z0-9 ,.%+-]|rgba?\([0-9 ,.%]+\))+`
	return regexp.MustCompile(`^` + declaration + `(?:; ` + declaration + `)*$`)
}()

const (
	//bound:limit what is shown of one style attribute | {bytes} in all, {bytes maxStyleValue} a value | declarations beyond it are left out
	maxStyle      = 1000
	maxStyleValue = 200
)

// plainlyStyled is a page whose style attributes are such that the policy, which keeps or drops them whole, keeps them. It
// decides nothing: what it overlooks the policy drops. Bluemonday's own way, a CSS parser for each attribute, takes longer
// than all the rest.
func plainlyStyled(page string) string {
	var out strings.Builder
	out.Grow(len(page))
	//bound:exempt the tags of one page; most are alike
	done := map[string]string{}
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return out.String()
		}
		raw := z.Raw()
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken || !namesStyle(raw) {
			out.Write(raw)
			continue
		}
		tag, known := done[string(raw)]
		if !known {
			key := string(raw) // reading the token changes raw
			tag = plainTag(z.Token())
			done[key] = tag
		}
		out.WriteString(tag)
	}
}

// namesStyle tells a tag that may have a style attribute.
func namesStyle(tag []byte) bool {
	return bytes.Contains(tag, []byte("style")) || bytes.Contains(bytes.ToLower(tag), []byte("style"))
}

func plainTag(t html.Token) string {
	var kept []html.Attribute
	for _, a := range t.Attr {
		if a.Key == "style" {
			if a.Val = plainDeclarations(a.Val); a.Val == "" {
				continue
			}
		}
		kept = append(kept, a)
	}
	t.Attr = kept
	return t.String()
}

// plainDeclarations of a style, as plainStyle wants them.
func plainDeclarations(style string) string {
	var out strings.Builder
	for declaration := range strings.SplitSeq(style, ";") {
		name, value, _ := strings.Cut(declaration, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !slices.Contains(plainProperties, name) {
			continue
		}
		value, ok := plainValue(value)
		if !ok || out.Len()+len(name)+len(value)+len("; : ") > maxStyle {
			continue
		}
		if out.Len() > 0 {
			out.WriteString("; ")
		}
		out.WriteString(name + ": " + value)
	}
	return out.String()
}

// plainValue of a declaration, without the quotation marks of fonts' names, which do without, and without "!important".
func plainValue(value string) (string, bool) {
	value = strings.TrimSpace(value)
	if len(value) > maxStyleValue {
		return "", false
	}
	if at := strings.LastIndexByte(value, '!'); at >= 0 && strings.EqualFold(strings.TrimSpace(value[at+1:]), "important") {
		value = strings.TrimSpace(value[:at])
	}
	for _, mark := range []string{`"`, `'`} {
		if strings.Count(value, mark)%2 == 0 { // else it quotes a semicolon
			value = strings.ReplaceAll(value, mark, "")
		}
	}
	value = strings.Join(strings.Fields(value), " ")
	lower := strings.ToLower(value)
	for _, word := range []string{"url", "expression", "image", "script"} { // without parentheses they mean nothing, and are never meant well
		if strings.Contains(lower, word) {
			return "", false
		}
	}
	if strings.Contains(lower, "rgb") {
		value = lower
	}
	return value, value != "" && plainStyle.MatchString("color: "+value) && !strings.Contains(value, ";")
}
