// Command generate spreads services/*/channel.yaml to where the rest of the mesh reads it: the features
// in libs/channel, the list of services in standalone and its go.mod, go.work, and what people and the linter read. Its
// argument is the repository's root.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"

	"tributary.dev/libs/channel"
)

// others are the services that are no channels, in the order standalone starts them.
var others = []string{"privacy", "connect", "conversation"}

func main() {
	root := "."
	if len(os.Args) == 2 {
		root = os.Args[1]
	}
	if err := generate(root); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	channels, err := read(root)
	if err != nil {
		return err
	}
	var names, modules []string
	for _, c := range channels {
		names = append(names, c.Name)
	}
	services := append(slices.Clone(others), names...)
	modules = append(modules, "libs", "proto")
	for _, s := range services {
		modules = append(modules, "services/"+s)
	}
	for _, own := range []string{"deploy", "services/standalone"} {
		if _, err := os.Stat(filepath.Join(root, own, "go.mod")); err == nil {
			modules = append(modules, own)
		}
	}
	slices.Sort(modules)
	return errors.Join(
		deployed(root, channels),
		write(root, "libs/channel/features_gen.go", featuresFile, channels),
		write(root, "services/standalone/services_gen.go", servicesFile, services),
		write(root, "go.work", workFile, modules),
		standalone(root, services),
		told(root, channels),
	)
}

func read(root string) ([]channel.Features, error) {
	files, err := filepath.Glob(filepath.Join(root, "services", "*", "channel.yaml"))
	if err != nil {
		return nil, err
	}
	var channels []channel.Features
	for _, file := range files {
		f, err := readOne(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		channels = append(channels, f)
	}
	return channels, nil // in the order of their names: Glob sorts
}

func readOne(file string) (channel.Features, error) {
	var f channel.Features
	text, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	if want := filepath.Base(filepath.Dir(file)); f.Name != want {
		return f, fmt.Errorf("name is %q in the folder of %q", f.Name, want)
	}
	return f, f.Validate()
}

func write(root, name, text string, data any) error {
	var b bytes.Buffer
	if err := template.Must(template.New(name).Funcs(template.FuncMap{
		"local": func(literal string) string {
			return strings.NewReplacer("channel.Features{", "Features{", "channel.Provider", "Provider").Replace(literal)
		},
	}).Parse(text)).Execute(&b, data); err != nil {
		return err
	}
	out := b.Bytes()
	if filepath.Ext(name) == ".go" {
		var err error
		if out, err = format.Source(out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.WriteFile(filepath.Join(root, name), out, 0o644)
}

const featuresFile = `// Code generated from services/*/channel.yaml by make generate. DO NOT EDIT.

package channel

// Names of the channels there are, sorted.
func Names() []string {
	return []string{ {{- range .}}{{printf "%q" .Name}}, {{end -}} }
}

// Lookup gives the features of a channel.
func Lookup(name string) (Features, bool) {
	switch name { {{- range .}}
	case {{printf "%q" .Name}}:
		return {{printf "%#v" . | local}}, true
	{{- end}}
	}
	return Features{}, false
}
`

const servicesFile = `// Code generated from services/*/channel.yaml by make generate. DO NOT EDIT.

package standalone

import (
	"tributary.dev/libs/app"
	{{- range .}}
	"tributary.dev/services/{{.}}"
	{{- end}}
)

// services of the mesh, in the order they start.
func services() []app.Service {
	return []app.Service{ {{- range .}}{{.}}.Service, {{end -}} }
}
`

const workFile = `go 1.26.0

use (
{{- range .}}
	./{{.}}
{{- end}}
)
`
