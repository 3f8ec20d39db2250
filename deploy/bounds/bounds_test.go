package main

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const root = "../.."

// TestEverythingThatGrowsOrWaitsHasABound in the mesh; its message says what to write.
func TestEverythingThatGrowsOrWaitsHasABound(t *testing.T) {
	found, err := check(root)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), tables(found)) {
		t.Error("ARCHITECTURE.md does not show the bounds that the code has: make generate")
	}
}

// TestWhatHasNoBoundIsFound, each kind of it, and nothing else.
func TestWhatHasNoBoundIsFound(t *testing.T) {
	for _, name := range []string{"sample", "named"} {
		t.Run(name, func(t *testing.T) {
			pkgs := sample(t, name)
			_, problems := inspect(pkgs, known)
			requireProblems(t, pkgs, problems)
		})
	}
}

var known = settings{"TRIBUTARY_ENTRIES": "20000", "TRIBUTARY_BYTES": "1073741824"}

// TestBoundsAreReadFromTheCode and never from the comment.
func TestBoundsAreReadFromTheCode(t *testing.T) {
	found, _ := inspect(sample(t, "named"), known)
	var got []string
	for _, b := range found {
		got = append(got, fmt.Sprintf("%s: %s | %s | %s", b.kind, b.what, b.bound, b.full))
	}
	want := []string{
		"queue: jobs | 8, of 1,024 in all | the sender waits 1.5s", // once, though two places have it
		"cache: what is pending | `TRIBUTARY_ENTRIES` (20,000) | the oldest goes",
		"limit: who waits | 1,024 | refused",
		"timeout: a call | 3s, holding 2s | 1 KiB are lost, `TRIBUTARY_BYTES` (1 GiB) kept",
		"retry: asking | after 1s, growing to 1m | goes on",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestWhatRunsIsInspected: what the services' commands are made of, and no kit.
func TestWhatRunsIsInspected(t *testing.T) {
	pkgs, err := load(root, "tributary.dev/libs/...", "tributary.dev/services/...")
	if err != nil {
		t.Fatal(err)
	}
	inspected := map[string]bool{}
	for _, p := range run(pkgs) {
		inspected[strings.TrimPrefix(p.PkgPath, "tributary.dev/")] = true
	}
	for name, want := range map[string]bool{
		"libs/bus": true, "libs/ingress/spool": true, "libs/devbroker": true, "services/sms": true, "services/privacy/registry": true, "services/standalone": true,
		"libs/bus/bustest": false, "libs/seal/canary": false, "libs/channel/generate": false, "services/sms/cmd/sms": false,
	} {
		if inspected[name] != want {
			t.Errorf("%s is inspected: %v", name, !want)
		}
	}
}

func sample(t *testing.T, name string) []*packages.Package {
	t.Helper()
	pkgs, err := load(".", "./testdata/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

var wanted = regexp.MustCompile(`// want (above )?"([^"]*)"`)

// requireProblems wants those that the comments of pkgs announce, each on its line.
func requireProblems(t *testing.T, pkgs []*packages.Package, problems []problem) {
	t.Helper()
	want := map[place]string{}
	for _, p := range pkgs {
		for _, file := range p.Syntax {
			for _, group := range file.Comments {
				for _, c := range group.List {
					noteWanted(want, p, c)
				}
			}
		}
	}
	for _, p := range problems {
		at := place{p.file, p.line}
		if text, ok := want[at]; !ok || !strings.Contains(p.text, text) {
			t.Errorf("%s:%d: %s; want %q", filepath.Base(p.file), p.line, p.text, text)
		}
		delete(want, at)
	}
	for at, text := range want {
		t.Errorf("%s:%d: not found: %s", filepath.Base(at.file), at.line, text)
	}
}

func noteWanted(want map[place]string, p *packages.Package, c *ast.Comment) {
	at := p.Fset.Position(c.Pos())
	for _, match := range wanted.FindAllStringSubmatch(c.Text, -1) {
		line := at.Line
		if match[1] != "" {
			line--
		}
		want[place{at.Filename, line}] = match[2]
	}
}
