// Command scaffold writes the folder of a new channel, services/<name>: a service that builds, refuses every webhook,
// sends nothing, and says so; the conformance kit tells item by item what is to do. Its arguments are the repository's
// root and the name; make new-channel NAME=<name> gives them, and spreads the channel too.
package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed template
var templates embed.FS

func main() {
	args := append(slices.Clone(os.Args[1:]), "", "")
	root, name := args[0], args[1]
	if err := scaffold(root, name); err != nil {
		fmt.Fprintln(os.Stderr, "new-channel:", err)
		os.Exit(1)
	}
	fmt.Printf("services/%s is there; go test ./services/%s/ lists what it owes (docs/adding-a-channel.md).\n", name, name)
}

// files of a channel's folder, by their templates.
func files(name string) map[string]string {
	return map[string]string{
		"doc.go": "doc.go", "config.go": "config.go", "channel.yaml": "channel.yaml", "verify.go": "verify.go",
		"normalise.go": "normalise.go", "send.go": "send.go", "service.go": "service.go", "cmd/" + name + "/main.go": "main.go",
		"README.md": "README.md", "go.mod": "go.mod", "adapter_test.go": "adapter_test.go", "testdata/unknown.http": "unknown.http",
	}
}

// scaffold writes the folder and tidies its module. A folder that is there is left alone; one that could not be
// written whole is taken away again.
func scaffold(root, name string) (err error) {
	if err := fault(name); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "libs", "channel")); err != nil {
		return errors.New("this is not the repository's root")
	}
	dir := filepath.Join(root, "services", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		if os.IsExist(err) {
			return fmt.Errorf("services/%s is there already", name)
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	channel := struct{ Name, Title, Env string }{name, strings.ToUpper(name[:1]) + name[1:], strings.ToUpper(name)}
	for file, from := range files(name) {
		text, err := render(from, channel)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return tidy(dir)
}

func render(from string, channel any) ([]byte, error) {
	t, err := template.ParseFS(templates, "template/"+from+".tmpl")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, channel); err != nil {
		return nil, err
	}
	if filepath.Ext(from) == ".go" {
		return format.Source(b.Bytes())
	}
	return b.Bytes(), nil
}

func tidy(dir string) error {
	//bound:timeout tidying a new channel's module | {} | make new-channel fails
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod tidy: %w\n%s", err, out)
	}
	return nil
}

// fault says why a name can't be a folder, a package, a topic's segment and a path's at once.
func fault(name string) error {
	switch {
	case name == "":
		return errors.New("NAME is missing: make new-channel NAME=telegram")
	case !regexp.MustCompile(`^[a-z][a-z0-9]{1,19}$`).MatchString(name):
		return fmt.Errorf("NAME is %q: must be 2 to 20 small letters and digits, a letter first", name)
	case token.IsKeyword(name), types.Universe.Lookup(name) != nil, slices.Contains(taken(), name):
		return fmt.Errorf("NAME is %q: the word is taken", name)
	}
	return nil
}

// taken are words that a channel's package can't have: what its files and standalone import, and what go reserves.
func taken() []string {
	return []string{
		"adapter", "all", "app", "channel", "channeltest", "dead", "errors", "http", "internal", "json", "main", "openapi",
		"require", "std", "standin", "strings", "test", "testdata", "testing", "url", "vendor",
	}
}
