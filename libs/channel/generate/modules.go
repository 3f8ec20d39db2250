package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// standalone has its go.mod require every service, each from beside it, and no other. It is tidied when that changed
// something.
func standalone(root string, services []string) error {
	dir := filepath.Join(root, "services", "standalone")
	file := filepath.Join(dir, "go.mod")
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	made, err := requiring(string(old), services)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if made == string(old) {
		return nil
	}
	if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
		return err
	}
	return tidy(dir)
}

// requiring gives a go.mod with the lines of these services in the places of those that it has.
func requiring(mod string, services []string) (string, error) {
	for line, has := range map[string]*regexp.Regexp{
		"\ttributary.dev/services/%s => ../%[1]s\n": regexp.MustCompile(`(?m)(^\ttributary\.dev/services/\w+ => \S+\n)+`),
		"\ttributary.dev/services/%s v0.0.0\n":      regexp.MustCompile(`(?m)(^\ttributary\.dev/services/\w+ v0\.0\.0\n)+`),
	} {
		if len(has.FindAllString(mod, -1)) != 1 {
			return "", fmt.Errorf("the services are not together, in lines like %q", line)
		}
		var lines strings.Builder
		for _, s := range slices.Sorted(slices.Values(services)) {
			fmt.Fprintf(&lines, line, s)
		}
		mod = has.ReplaceAllLiteralString(mod, lines.String())
	}
	return mod, nil
}

// tidy a module, without the workspace.
func tidy(dir string) error {
	//bound:timeout tidying a module by make generate | {} | make generate fails
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: go mod tidy: %w\n%s", dir, err, out)
	}
	return nil
}
