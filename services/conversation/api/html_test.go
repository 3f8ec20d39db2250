package api

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatIsShownOfHTMLHarmsNobody(t *testing.T) {
	for name, page := range map[string]string{
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
	} {
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
