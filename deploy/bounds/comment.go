package main

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// comment is one //bound: comment.
type comment struct {
	pkg  *packages.Package
	pos  token.Pos
	kind string
	// what, bound and full of a bound: what is bounded, by what, and what happens there. Of exempt, what is
	// the reason; of caller, the kind that callers have to name.
	what, bound, full string
	used              bool
}

var (
	directive = regexp.MustCompile(`^//bound:([a-z]*)(?: (.*))?$`)
	kinds     = []string{"queue", "cache", "limit", "pool", "goroutines", "timeout", "retry"}
	braced    = regexp.MustCompile(`\{[^{}]*\}`)
	digit     = regexp.MustCompile(`[0-9]`)
)

// comments reads those of a file, each under the line that it is about: its own where code stands before
// it, else the one below its group.
func (t *tree) comments(pkg *packages.Package, file *ast.File) {
	code := t.linesOfCode(file)
	for _, group := range file.Comments {
		below := t.place(group.End())
		below.line++
		for _, c := range group.List {
			match := directive.FindStringSubmatch(c.Text)
			if match == nil {
				continue
			}
			parsed := &comment{pkg: pkg, pos: c.Pos(), kind: match[1]}
			if fault := parsed.parse(match[2]); fault != "" {
				t.problem(c.Pos(), fault)
				continue
			}
			about := below
			if own := t.place(c.Pos()); code[own.line] {
				about = own
			}
			t.about[about] = append(t.about[about], parsed)
			t.all = append(t.all, parsed)
		}
	}
}

// linesOfCode are those that something ends on or begins on, comments apart.
func (t *tree) linesOfCode(file *ast.File) map[int]bool {
	lines := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.Comment, *ast.CommentGroup, *ast.File:
			return n != nil
		}
		lines[t.place(n.Pos()).line] = true
		lines[t.place(n.End()-1).line] = true
		return true
	})
	return lines
}

// parse gives what is wrong with the text, or "".
func (c *comment) parse(text string) string {
	text = strings.TrimSpace(text)
	switch {
	case c.kind == "exempt":
		c.what = text
		if text == "" {
			return "exempt needs a reason: //bound:exempt <why nothing can grow or wait here>"
		}
		return ""
	case c.kind == "caller":
		c.what = text
		if !slices.Contains(kinds, text) {
			return "caller needs a kind: //bound:caller " + strings.Join(kinds, "|")
		}
		return ""
	case !slices.Contains(kinds, c.kind):
		return "bound:" + c.kind + " is none of " + strings.Join(kinds, ", ") + ", exempt, caller"
	}
	parts := strings.Split(text, " | ")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return "a bound has three parts: " + form(c.kind)
	}
	c.what, c.bound, c.full = parts[0], parts[1], parts[2]
	if digit.MatchString(braced.ReplaceAllString(c.bound, "")) {
		return "a number in a bound stands in braces, so that it is read from the code: {}, {maxWaiting}, {Config.Hold}, {TRIBUTARY_SPOOL_BYTES}"
	}
	return ""
}

// form is what to write.
func form(kind string) string {
	return "//bound:" + kind + " <what> | <bound: {} for the value here, {constant}, {Config.Field}, {TRIBUTARY_SETTING} or words> | <what happens at the bound>"
}
