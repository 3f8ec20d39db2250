package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ARCHITECTURE.md holds the tables between these lines.
const (
	begin = "<!-- bounds: made by make generate -->\n"
	end   = "<!-- /bounds -->\n"
)

// write puts the tables into ARCHITECTURE.md below root.
func write(root string, found []bound) error {
	path := filepath.Join(root, "ARCHITECTURE.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: no lines %q and %q to put the tables between", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+begin+tables(found)+"\n"+end+after), 0o644)
}

// tables renders one table a room.
func tables(found []bound) string {
	var b strings.Builder
	for i, row := range found {
		if i == 0 || found[i-1].room != row.room {
			fmt.Fprintf(&b, "\n### %s\n\n| kind | what | bound | at the bound |\n| --- | --- | --- | --- |\n", row.room)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.kind, row.what, row.bound, row.full)
	}
	return b.String()
}
