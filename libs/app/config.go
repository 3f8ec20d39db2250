package app

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// prefix of every setting.
const prefix = "TRIBUTARY_"

// Load fills settings (pointers to structs with env tags) from an environment as os.Environ gives it and
// validates them. A setting may also be given as NAME_FILE, the path of a file that holds it. The error
// joins all faults, each beginning with its setting's name; unknown are the TRIBUTARY_ names that mean
// nothing here.
func Load(environ []string, targets ...any) (unknown []string, err error) {
	environment := map[string]string{}
	for k, v := range env.ToMap(environ) {
		if strings.HasPrefix(k, prefix) {
			environment[k] = v
		}
	}
	known := map[string]bool{}
	var faults []error
	for _, target := range targets {
		for _, s := range settingsOf(reflect.ValueOf(target)) {
			known[s.name], known[s.name+"_FILE"] = true, true
			if err := s.fromFile(environment); err != nil {
				faults = append(faults, err)
			}
			if err := s.parses(target, environment); err != nil {
				faults = append(faults, err)
				delete(environment, s.name)
			}
		}
		if err := env.ParseWithOptions(target, env.Options{Environment: environment}); err != nil {
			faults = append(faults, missing(err))
		}
		if v, ok := target.(interface{ Validate() error }); ok {
			faults = append(faults, v.Validate())
		}
	}
	for name := range environment {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown, errors.Join(faults...)
}

// setting is one field.
type setting struct {
	name  string
	doc   string
	value reflect.Value
}

// settingsOf walks a struct as caarlos0/env does.
func settingsOf(v reflect.Value) []setting { return walk(v, "") }

func walk(v reflect.Value, prefix string) (out []setting) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case name != "":
			out = append(out, setting{name: prefix + name, doc: f.Tag.Get("doc"), value: v.Field(i)})
		case f.Type.Kind() == reflect.Struct:
			out = append(out, walk(v.Field(i), prefix+f.Tag.Get("envPrefix"))...)
		}
	}
	return out
}

func (s setting) fromFile(environment map[string]string) error {
	path, ok := environment[s.name+"_FILE"]
	if !ok {
		return nil
	}
	if _, both := environment[s.name]; both {
		return fmt.Errorf("%s_FILE: %s is given too", s.name, s.name)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s_FILE: %w", s.name, err)
	}
	environment[s.name] = strings.TrimSpace(string(content))
	return nil
}

// parses tries the one setting alone: caarlos0/env names the field at fault, not the setting.
func (s setting) parses(target any, environment map[string]string) error {
	value, ok := environment[s.name]
	if !ok {
		return nil
	}
	trial := reflect.New(reflect.TypeOf(target).Elem()).Interface()
	err := env.ParseWithOptions(trial, env.Options{Environment: map[string]string{s.name: value}})
	var parse env.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("%s: must be %s", s.name, kindOf(s.value.Type()))
	}
	return nil
}

// missing names the settings that are required and not there.
func missing(err error) error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	var faults []error
	for _, e := range all.Errors {
		var unset env.VarIsNotSetError
		var empty env.EmptyVarError
		switch {
		case errors.As(e, &unset):
			faults = append(faults, fmt.Errorf("%s: is required", unset.Key))
		case errors.As(e, &empty):
			faults = append(faults, fmt.Errorf("%s: must not be empty", empty.Key))
		default:
			faults = append(faults, e)
		}
	}
	return errors.Join(faults...)
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration (45s, 2m)"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32:
		return "a number"
	case t.Kind() == reflect.Slice:
		return "a comma-separated list"
	case t.Kind() == reflect.Map:
		return "a comma-separated list of pairs"
	}
	return "a whole number"
}
