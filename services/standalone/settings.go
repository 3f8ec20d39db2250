package standalone

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tributary.dev/libs/app"
)

// A README holds its table between these lines.
const (
	tableBegin = "<!-- settings: made by make generate -->\n"
	tableEnd   = "<!-- /settings -->\n"
)

// writeSettings puts each service's table of settings into its README, and the common one into docs.
func writeSettings(root string) error {
	common := app.Defaults()
	tables := map[string]string{"docs/operations.md": app.Table(&common)}
	for _, s := range services() {
		tables[filepath.Join("services", s.Name, "README.md")] = app.Docs(s)
	}
	for name, table := range tables {
		path := filepath.Join(root, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		before, rest, ok := strings.Cut(string(text), tableBegin)
		_, after, ok2 := strings.Cut(rest, tableEnd)
		if !ok || !ok2 {
			return fmt.Errorf("%s: no lines %q and %q to put the table between", name, strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
		}
		if err := os.WriteFile(path, []byte(before+tableBegin+"\n"+table+"\n"+tableEnd+after), 0o644); err != nil {
			return err
		}
	}
	return nil
}
