package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// bound is one row of the tables.
type bound struct {
	room, kind, what, bound, full string
}

// place is a line of a file.
type place struct {
	file string
	line int
}

// site is what needs a bound.
type site struct {
	pkg   *packages.Package
	pos   token.Pos
	what  string
	kinds []string // that its comment may have
	value ast.Expr // its own bound, {}; may be nil
	args  []ast.Expr
	// owner is the type that a field belongs to, nil otherwise.
	owner *types.TypeName
}

// tree is the code being inspected.
type tree struct {
	pkgs     []*packages.Package
	settings settings
	fset     *token.FileSet
	about    map[place][]*comment
	all      []*comment
	callers  map[*types.Func]*comment
	sites    []site
	// constants may have a bound of their own: what counts by hand has no other place to say so.
	constants map[place]site
	problems  []problem
}

// inspect finds the bounds that the packages name, and the places that need one and have none.
func inspect(pkgs []*packages.Package, known settings) ([]bound, []problem) {
	t := &tree{pkgs: pkgs, settings: known, fset: pkgs[0].Fset, about: map[place][]*comment{}, callers: map[*types.Func]*comment{}, constants: map[place]site{}}
	for _, pkg := range pkgs {
		for _, file := range pkg.Syntax {
			t.comments(pkg, file)
		}
	}
	t.findCallers()
	for _, pkg := range pkgs {
		for _, file := range pkg.Syntax {
			t.findSites(pkg, file)
		}
	}
	t.findGrowth()
	found := t.match()
	for _, c := range t.all {
		if !c.used {
			t.problem(c.pos, "nothing here needs this comment: put it directly above what it bounds, or take it away")
		}
	}
	slices.SortFunc(t.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
	slices.SortFunc(found, func(a, b bound) int {
		return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(slices.Index(kinds, a.kind), slices.Index(kinds, b.kind)),
			cmp.Compare(a.what, b.what), cmp.Compare(a.bound, b.bound), cmp.Compare(a.full, b.full))
	})
	return slices.Compact(found), slices.Compact(t.problems)
}

// findCallers notes the functions whose callers have to name a bound.
func (t *tree) findCallers() {
	for _, pkg := range t.pkgs {
		for _, file := range pkg.Syntax {
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				for _, c := range t.about[t.place(f.Pos())] {
					if c.kind == "caller" {
						t.callers[pkg.TypesInfo.Defs[f.Name].(*types.Func)] = c
					}
				}
			}
		}
	}
}

// match gives each site its comment, and makes rows of them.
func (t *tree) match() (found []bound) {
	slices.SortStableFunc(t.sites, func(a, b site) int { return cmp.Compare(a.pos, b.pos) })
	for _, s := range t.sites {
		c := t.commentOf(s)
		if c == nil {
			t.problem(s.pos, fmt.Sprintf("%s without a bound. Write directly above it\n\t%s\n\tor, where nothing can grow or wait,\n\t//bound:exempt <why>", s.what, form(strings.Join(s.kinds, "|"))))
			continue
		}
		if c.kind != "exempt" {
			found = t.row(found, c, s)
		}
	}
	for at, s := range t.constants {
		for _, c := range t.about[at] {
			if !c.used && slices.Contains(kinds, c.kind) {
				c.used = true
				found = t.row(found, c, s)
			}
		}
	}
	return found
}

func (t *tree) row(found []bound, c *comment, s site) []bound {
	b := bound{room: room(s.pkg.PkgPath), kind: c.kind}
	for _, cell := range []struct {
		into *string
		text string
	}{{&b.what, c.what}, {&b.bound, c.bound}, {&b.full, c.full}} {
		var err error
		if *cell.into, err = t.fill(cell.text, c, s); err != nil {
			t.problem(c.pos, err.Error())
			return found
		}
	}
	return append(found, b)
}

// commentOf is the first comment of the site's line that fits and is no other site's, or that of its type.
func (t *tree) commentOf(s site) *comment {
	for _, c := range t.about[t.place(s.pos)] {
		if !c.used && (c.kind == "exempt" || slices.Contains(s.kinds, c.kind)) {
			c.used = true
			return c
		}
	}
	if s.owner != nil {
		for _, c := range t.about[t.place(s.owner.Pos())] {
			if c.kind == "exempt" || slices.Contains(s.kinds, c.kind) {
				c.used = true
				return c
			}
		}
	}
	return nil
}

func (t *tree) site(s site) { t.sites = append(t.sites, s) }

func (t *tree) place(pos token.Pos) place {
	p := t.fset.Position(pos)
	return place{p.Filename, p.Line}
}

func (t *tree) problem(pos token.Pos, text string) {
	at := t.place(pos)
	t.problems = append(t.problems, problem{at.file, at.line, text})
}

// room is the folder below libs or services.
func room(pkgPath string) string {
	parts := strings.Split(filepath.ToSlash(pkgPath), "/")
	if len(parts) < 3 {
		return parts[len(parts)-1]
	}
	return parts[2]
}
