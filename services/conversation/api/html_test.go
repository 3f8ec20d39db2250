package api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/html"
)

// hostile pages hold one of the words that the test looks for.
var hostile = map[string]string{
	"a script": `<script>alert(1)</script>`, "an event": `<p onclick="alert(1)">x</p>`, "a script's address": `<a href="javascript:alert(1)">x</a>`,
	"a hidden script's address": `<a href="jav&#x09;ascript:alert(1)">x</a>`, "a frame": `<iframe src="https://evil.example"></iframe>`,
	"a form": `<form action="https://evil.example"><input name=alert></form>`, "an object": `<object data="https://evil.example/x.swf"></object>`,
	"a remote image": `<img src="https://evil.example/p.gif">`, "a remote image set": `<img srcset="https://evil.example/p.gif 2x">`,
	"an image without scheme": `<img src="//evil.example/p.gif">`, "a background": `<td background="https://evil.example/p.gif">x</td>`,
	"a style's image": `<p style="background:url(https://evil.example)">x</p>`, "a style's import": `<style>@import "https://evil.example"</style>`,
	"a style in disguise": `<p style="width:expression(alert(1))">x</p>`, "an escaped style": `<p style="background-color: u\72l(https://evil.example)">x</p>`,
	"a base": `<base href="https://evil.example/">`, "a refresh": `<meta http-equiv="refresh" content="0;url=https://evil.example">`,
	"a link": `<link rel="stylesheet" href="https://evil.example/x.css">`, "a drawing": `<svg><image href="https://evil.example/x"/></svg>`,
	"a drawing's script": `<svg onload=alert(1)>`, "a video": `<video poster="https://evil.example/x" src="https://evil.example/y"></video>`,
	"formulas": `<math><mtext><style><img src="https://evil.example/x" onerror=alert(1)></style></mtext></math>`, "data": `<img src="data:text/html,<script>alert(1)</script>">`,
	"a comment": `<!--[if mso]><img src="https://evil.example/x"><![endif]-->`, "a template": `<template><script>alert(1)</script></template>`,
	"a position": `<div style="position:fixed;top:0;z-index:9999">x</div>`, "an id": `<div id="app" class="alert">x</div>`,
}

func TestWhatIsShownOfHTMLHarmsNobody(t *testing.T) {
	for name, page := range hostile {
		shown := sanitised("<p>Hello</p>" + page)
		for _, harm := range []string{"evil.example", "alert", "javascript", "position", "<form", "<style"} {
			assert.NotContains(t, shown, harm, "%s: %s", name, shown)
		}
		assert.Contains(t, shown, "<p>Hello</p>", name)
	}
	kept := sanitised(`<p style="color: #c00; text-align: center">a <a href="https://example.com/x?a=1">link</a> <img src="cid:photo@x" alt="it" width="10"></p><blockquote type="cite">q</blockquote>`)
	for _, want := range []string{`color: #c00`, `href="https://example.com/x?a=1"`, `noreferrer`, `noopener`, `nofollow`, `target="_blank"`, `src="cid:photo@x"`, `alt="it"`, `<blockquote type="cite">`} {
		assert.Contains(t, kept, want)
	}
}

func TestStylesKeepWhatTextLooksLikeAndNothingElse(t *testing.T) {
	for style, want := range map[string]string{
		"margin:0px 0px 0px 0.8ex;border-left:1px solid red;padding-left:1ex": "margin: 0px 0px 0px 0.8ex; padding-left: 1ex",
		"border:1px solid rgb(204,204,204);COLOR:RGBA(1, 2, 3, 50%)":          "border: 1px solid rgb(204,204,204); color: rgba(1, 2, 3, 50%)",
		`font-family:"Segoe UI", 'Arial' ,sans-serif`:                         "font-family: Segoe UI, Arial ,sans-serif",
		"color: red !important;; width :\n10px;":                              "color: red; width: 10px",
		`font-family:"a;color:red;b"`:                                         "color: red", // which is what it says to who takes the quotation for none
		"color:red}":                                                          "", "color": "", ":red": "", "position:fixed": "", "color:": "", "color:r/**/ed": "", `color:r\65 d`: "",
		"width:calc(1px)": "", "width:rgb()": "", "color:rgb(1": "", "color:url": "", "background-color:-moz-element(#x)": "", "color:a:b": "", `color:"red`: "",
		"width:" + strings.Repeat("1", maxStyleValue+1): "",
	} {
		assert.Equal(t, want, plainDeclarations(style), style)
	}
	assert.LessOrEqual(t, len(plainDeclarations(strings.Repeat("color:red;", 1000))), maxStyle)
	assert.Equal(t, `<p style="color: red">x</p><p>y</p>`, sanitised(`<P STYLE='color:red;position:fixed'>x</p><p style="position:fixed">y</p>`))
}

// harmless fails where a page that may be shown could fetch, run or cover anything, whatever it was made of.
func harmless(t *testing.T, page string) {
	shown := sanitised(page)
	z := html.NewTokenizer(strings.NewReader(shown))
	for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
		assert.NotEqual(t, html.CommentToken, kind, shown)
		tag := z.Token()
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		switch tag.Data {
		case "script", "style", "iframe", "object", "embed", "form", "input", "svg", "math", "link", "meta", "base", "template", "video", "audio", "noscript", "textarea", "title":
			assert.Fail(t, "a tag that may not be shown", "%s in %q", tag.Data, shown)
		}
		for _, a := range tag.Attr {
			lower := strings.ToLower(a.Val)
			switch a.Key {
			case "style":
				assert.Regexp(t, plainStyle, a.Val)
				for _, harm := range []string{"url", "expression", "javascript", "position", "@", `\`, "<", ":fixed", `"`, "'"} {
					assert.NotContains(t, strings.ReplaceAll(lower, "font-family: ", ""), harm, "%q", shown)
				}
			case "href":
				assert.NotRegexp(t, `^[\x00-\x20]*(javascript|data|vbscript|file|blob)`, lower)
			case "src":
				assert.True(t, strings.HasPrefix(lower, "cid:"), "%q", shown)
			default:
				assert.False(t, strings.HasPrefix(a.Key, "on") || a.Key == "id" || a.Key == "class" || a.Key == "srcset" || a.Key == "background", "%s in %q", a.Key, shown)
			}
		}
	}
	assert.Equal(t, shown, sanitised(shown), "of %q: sanitised twice", page)
}

func FuzzSanitised(f *testing.F) {
	for _, page := range hostile {
		f.Add(page)
	}
	for _, page := range []string{
		`<p style="color: red; position:fixed">x`, `<p style="color:red`, `<p STYLE=color:red onclick=x>`, `<a href="https://x.example/?a=1&b=2" rel=x target=_top>y</a>`,
		`<p style="font-family:&quot;a;position:fixed&quot;">x</p>`, `<p style="color:red" style="position:fixed" sty"le=x>`, "<p/style=color:red/onclick=x>", `<textarea><p style="x">`,
		`<plaintext><p style="color:red">`, `<xmp><p style="x"></xmp>`, `<!--><p style="color:url(x)">-->`, `<![CDATA[<p style="x">]]>`, "<p style=\"color:\x00red\">\x00</p>",
		`<img src=cid:a style="width:1px" alt='"><script>'>`, `<a href=" https://x y">`, `<p style="color:RGB(1,2,3);width:expression(1)">`, "&lt;script&gt;&amp;lt;", "a\r\nb",
	} {
		f.Add(page)
	}
	f.Fuzz(harmless)
}

func BenchmarkSanitised(b *testing.B) {
	const one = `<p class="MsoNormal" style="margin:0in 0in 0.0001pt;font-size:11pt;font-family:Calibri,sans-serif"><span lang="EN-GB">thank you for your ` +
		`patience. We have asked the carrier again: the parcel left our warehouse on Monday.</span></p>` + "\n"
	page := strings.Repeat(one, 34<<10/len(one))
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		sanitised(page)
	}
}
