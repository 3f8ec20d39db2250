package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/capability"
)

// told spreads the channels to what people and the linter read.
func told(root string, channels []channel.Features) error {
	table, err := capabilities(root, channels)
	if err != nil {
		return err
	}
	if err := between(filepath.Join(root, "README.md"), "<!-- channels: made by make generate -->\n", "<!-- /channels -->\n", "\n"+table+"\n"); err != nil {
		return err
	}
	var rules, folders []string
	for _, c := range channels {
		rules = append(rules, fmt.Sprintf("        %s: {<<: *alone, files: [\"**/services/%s/**\"], allow: [tributary.dev/services/%s]}\n", c.Name, c.Name, c.Name))
		folders = append(folders, fmt.Sprintf("%q", "**/services/"+c.Name+"/**"))
	}
	linter := filepath.Join(root, ".golangci.yml")
	if err := between(linter, "        # channels: made by make generate\n", "        # /channels\n", strings.Join(rules, "")); err != nil {
		return err
	}
	return between(linter, "          # adapters: made by make generate\n", "          # /adapters\n", "          files: ["+strings.Join(folders, ", ")+"]\n")
}

// capabilities of the channels, a row each, a channel a column. A cell names the test that proves it.
func capabilities(root string, channels []channel.Features) (string, error) {
	proofs := make([]map[capability.Name]proof, len(channels))
	var b strings.Builder
	b.WriteString("| |")
	for i, c := range channels {
		var err error
		if proofs[i], err = proved(root, c.Name); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " [%s](services/%s/README.md) |", c.Title, c.Name)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" :-: |", len(channels)) + "\n")
	for _, c := range capability.All() {
		row, any := "| "+c.Title+" |", false
		for i := range channels {
			if p, ok := proofs[i][c.Name]; ok {
				row, any = row+fmt.Sprintf(" [✓](%s %q) |", p.file, p.test), true
			} else {
				row += " |"
			}
		}
		if any {
			b.WriteString(row + "\n")
		}
	}
	return b.String(), nil
}

// proof of a capability: a test, and what shows it: the golden that it compares, else the record that names it.
type proof struct{ test, file string }

// proved reads the records that a channel's tests keep and are held to: one, or one a provider.
func proved(root, name string) (map[capability.Name]proof, error) {
	all := map[capability.Name]proof{}
	for _, where := range []string{"testdata/capabilities.json", "testdata/*/capabilities.json"} {
		files, err := filepath.Glob(filepath.Join(root, "services", name, where))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			var record map[capability.Name]string
			if err := json.Unmarshal(text, &record); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			from, err := filepath.Rel(root, file)
			if err != nil {
				return nil, err
			}
			from = filepath.ToSlash(from)
			for c, test := range record {
				if _, ok := all[c]; ok {
					continue
				}
				all[c] = proof{test: test, file: from}
				if _, sample, ok := strings.Cut(test, "/goldens/"); ok {
					all[c] = proof{test: test, file: path.Join(path.Dir(from), sample+".golden.json")}
				}
			}
		}
	}
	return all, nil
}

// between replaces what stands between two lines of a file that is otherwise written by hand.
func between(file, begin, end, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: no lines %q and %q to put it between", file, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644)
}
