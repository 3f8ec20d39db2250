package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// settings are the mesh's, by name, with their defaults.
type settings map[string]string

var settingRow = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`([^`]*)`)? \\|")

// readSettings reads them from the tables that `tributary settings` has written.
func readSettings(root string) (settings, error) {
	files, err := filepath.Glob(filepath.Join(root, "services", "*", "README.md"))
	if err != nil {
		return nil, err
	}
	all := settings{}
	for _, file := range append(files, filepath.Join(root, "docs", "operations.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, row := range settingRow.FindAllStringSubmatch(string(text), -1) {
			all[row[1]] = row[2]
		}
	}
	return all, nil
}

// fill gives a text of a comment with what stands in braces read from the code.
func (t *tree) fill(text string, c *comment, s site) (filled string, err error) {
	filled = braced.ReplaceAllStringFunc(text, func(reference string) string {
		value, fault := t.value(strings.Trim(reference, "{}"), c, s)
		if fault != nil && err == nil {
			err = fmt.Errorf("%s: %w", reference, fault)
		}
		return value
	})
	return filled, err
}

// value renders what stands in one pair of braces.
func (t *tree) value(reference string, c *comment, s site) (string, error) {
	reference, asBytes := strings.CutPrefix(reference+" ", "bytes ")
	reference = strings.TrimSpace(reference)
	if strings.HasPrefix(reference, "TRIBUTARY_") {
		return t.settings.show(reference, asBytes)
	}
	v, typ, err := t.constant(reference, c, s)
	if err != nil {
		return "", err
	}
	n, exact := constant.Int64Val(constant.ToInt(v))
	switch {
	case !exact:
		return v.String(), nil
	case asBytes:
		return inBytes(n), nil
	case isDuration(typ):
		return inTime(time.Duration(n)), nil
	}
	return inDigits(n), nil
}

// show gives a setting with its default.
func (known settings) show(name string, asBytes bool) (string, error) {
	value, ok := known[name]
	if !ok {
		return "", fmt.Errorf("is no setting")
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && asBytes {
		value = inBytes(n)
	} else if err == nil {
		value = inDigits(n)
	}
	if value == "" {
		return "`" + name + "`", nil
	}
	return "`" + name + "` (" + value + ")", nil
}

// constant evaluates what stands in braces.
func (t *tree) constant(reference string, c *comment, s site) (constant.Value, types.Type, error) {
	of := s.value
	if number, ok := strings.CutPrefix(reference, "$"); ok {
		i, err := strconv.Atoi(number)
		if err != nil || i < 1 || i > len(s.args) {
			return nil, nil, fmt.Errorf("the call has %d arguments", len(s.args))
		}
		of, reference = s.args[i-1], ""
	}
	if reference == "" {
		if of == nil {
			return nil, nil, fmt.Errorf("there is no value at this place")
		}
		if known := s.pkg.TypesInfo.Types[of]; known.Value != nil {
			return known.Value, known.Type, nil
		}
		return nil, nil, fmt.Errorf("%s is not constant: name a constant, a setting or a field in braces", types.ExprString(of))
	}
	if known, err := types.Eval(t.fset, c.pkg.Types, c.pos, reference); err == nil && known.Value != nil {
		return known.Value, known.Type, nil
	}
	return t.setField(reference, c)
}

// setField is the constant that one literal of a struct in the comment's package sets a field to.
func (t *tree) setField(reference string, c *comment) (constant.Value, types.Type, error) {
	owner, name, ok := strings.Cut(reference, ".")
	if !ok {
		return nil, nil, fmt.Errorf("is no constant here")
	}
	typ, ok := c.pkg.Types.Scope().Lookup(owner).(*types.TypeName)
	if !ok {
		return nil, nil, fmt.Errorf("%s is no type here", owner)
	}
	var found []types.TypeAndValue
	for _, file := range c.pkg.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !types.Identical(c.pkg.TypesInfo.TypeOf(lit), typ.Type()) {
				return true
			}
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					value := c.pkg.TypesInfo.Types[kv.Value]
					if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name && value.Value != nil {
						found = append(found, value)
					}
				}
			}
			return true
		})
	}
	if len(found) != 1 {
		return nil, nil, fmt.Errorf("one literal of %s must set %s to a constant, and %d do", owner, name, len(found))
	}
	return found[0].Value, found[0].Type, nil
}

func inBytes(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size && n%unit.size == 0 {
			return inDigits(n/unit.size) + " " + unit.name
		}
	}
	return inDigits(n) + " B"
}

// inTime writes 1m0s as 1m, and whole days as such.
func inTime(d time.Duration) string {
	if day := 24 * time.Hour; d >= 2*day && d%day == 0 {
		return inDigits(int64(d/day)) + " days"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// inDigits writes 10000 as 10,000.
func inDigits(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
