package app

import (
	"bytes"
	"fmt"
	"net/http"

	"gopkg.in/yaml.v3"
)

// Document merges the OpenAPI documents of a process's services into one: the paths and components of all.
// What two of them name alike must be the same.
func Document(parts [][]byte) ([]byte, error) {
	merged := map[string]any{
		"openapi":  "3.1.0",
		"info":     map[string]any{"title": "Tributary", "version": "v1", "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"servers":  []any{map[string]any{"url": "/"}},
		"security": []any{map[string]any{"apiKey": []any{}}},
	}
	for _, text := range parts {
		var one map[string]any
		if err := yaml.Unmarshal(text, &one); err != nil {
			return nil, fmt.Errorf("OpenAPI: %w", err)
		}
		for _, section := range []string{"paths", "components"} {
			if err := mergeInto(merged, one, section, section); err != nil {
				return nil, err
			}
		}
		tags, _ := one["tags"].([]any)
		known, _ := merged["tags"].([]any)
		merged["tags"] = append(known, tags...)
	}
	return yaml.Marshal(merged)
}

// mergeInto adds from[key] to into[key], map by map.
func mergeInto(into, from map[string]any, key, path string) error {
	value, ok := from[key]
	if !ok {
		return nil
	}
	there, ok := into[key]
	if !ok {
		into[key] = value
		return nil
	}
	a, isMap := there.(map[string]any)
	b, areMaps := value.(map[string]any)
	if isMap && areMaps {
		for name := range b {
			if err := mergeInto(a, b, name, path+"."+name); err != nil {
				return err
			}
		}
		return nil
	}
	x, errX := yaml.Marshal(there)
	y, errY := yaml.Marshal(value)
	if errX != nil || errY != nil || !bytes.Equal(x, y) {
		return fmt.Errorf("OpenAPI: two services differ in %s", path)
	}
	return nil
}

// openAPI serves the document of the process.
func (r *run) openAPI() (http.HandlerFunc, error) {
	var parts [][]byte
	for _, s := range r.services {
		if len(s.parts.OpenAPI) > 0 {
			parts = append(parts, s.parts.OpenAPI)
		}
	}
	text, err := Document(parts)
	if err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
		_, _ = w.Write(text) // the caller has gone; there is nobody to tell
	}, nil
}
