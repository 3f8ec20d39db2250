package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// load type-checks the packages that the patterns name.
func load(dir string, patterns ...string) ([]*packages.Package, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir:  dir,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, p := range pkgs {
		for _, e := range p.Errors {
			faults = append(faults, e)
		}
	}
	if len(pkgs) == 0 {
		faults = append(faults, fmt.Errorf("no package matches %s", strings.Join(patterns, " ")))
	}
	return pkgs, errors.Join(faults...)
}

// run keeps of packages what the services' commands are made of: what is left are kits for tests, generators,
// and the commands themselves.
func run(pkgs []*packages.Package) []*packages.Package {
	reached := map[*packages.Package]bool{}
	var reach func(p *packages.Package)
	reach = func(p *packages.Package) {
		for _, imported := range p.Imports {
			if !reached[imported] {
				reached[imported] = true
				reach(imported)
			}
		}
	}
	for _, p := range pkgs {
		if p.Name == "main" && strings.HasPrefix(p.PkgPath, "tributary.dev/services/") {
			reach(p)
		}
	}
	return slices.DeleteFunc(pkgs, func(p *packages.Package) bool { return !reached[p] })
}

// problem is a place without a bound, or a comment that says nothing true.
type problem struct {
	file string
	line int
	text string
}

// refused tells all problems, each with its place relative to root.
func refused(root string, problems []problem) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, p := range problems {
		file := p.file
		if rel, err := filepath.Rel(root, file); err == nil {
			file = rel
		}
		fmt.Fprintf(&b, "\n%s:%d: %s", file, p.line, p.text)
	}
	return errors.New(b.String())
}
