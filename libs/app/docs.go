package app

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Docs renders a service's own settings as a Markdown table, for its README, and which of the common ones
// it needs.
func Docs(s Service) string {
	own := noSettings
	if s.Config != nil {
		own = Table(s.Config())
	}
	if len(s.Needs) > 0 {
		own += "\nRequired of the common ones: `" + strings.Join(s.Needs, "`, `") + "`.\n"
	}
	return own
}

const noSettings = "This service has no settings of its own.\n"

// Table renders settings with their defaults.
func Table(target any) string {
	settings := settingsOf(reflect.ValueOf(target))
	if len(settings) == 0 {
		return noSettings
	}
	var b strings.Builder
	b.WriteString("| setting | default | what |\n| --- | --- | --- |\n")
	for _, s := range settings {
		def := show(s.value)
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.name, def, strings.ReplaceAll(s.doc, "|", `\|`))
	}
	return b.String()
}

func show(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		if d == 0 {
			return ""
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
	switch v.Kind() {
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = fmt.Sprint(v.Index(i))
		}
		return strings.Join(parts, ",")
	case reflect.Map:
		return ""
	}
	return fmt.Sprint(v.Interface())
}
