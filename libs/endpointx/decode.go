package endpointx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
)

// decoded is a request on its way through the endpoint.
type decoded[Req any] struct {
	req Req
	key idempotencyKey
}

// decoder knows, from Req's tags, where each field comes from.
type decoder[Req any] struct {
	opts   Options
	params []param
	body   bool
}

type param struct {
	index []int
	name  string
	path  bool
}

func newDecoder[Req any](opts Options) *decoder[Req] {
	d := &decoder[Req]{opts: opts}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Req]()) {
		if !f.IsExported() || f.Anonymous {
			continue
		}
		if name, ok := f.Tag.Lookup("path"); ok {
			d.params = append(d.params, param{index: f.Index, name: name, path: true})
		} else if name, ok := f.Tag.Lookup("query"); ok {
			d.params = append(d.params, param{index: f.Index, name: name})
		} else if f.Tag.Get("json") != "-" {
			d.body = true
		}
	}
	return d
}

func (d *decoder[Req]) decode(ctx context.Context, r *http.Request) (any, error) {
	if d.opts.Scope != "" {
		if err := access.Require(ctx, d.opts.Scope); err != nil {
			return nil, err
		}
	}
	var out decoded[Req]
	var raw []byte
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		var err error
		if raw, err = readBody(r); err != nil {
			return nil, err
		}
		if len(raw) > 0 || d.body && !d.opts.EmptyBody {
			if err := decodeBody(r, raw, &out.req); err != nil {
				return nil, err
			}
		}
	}
	if err := d.setParams(r, reflect.ValueOf(&out.req).Elem()); err != nil {
		return nil, err
	}
	if p, ok := any(&out.req).(interface {
		bind(path string, query url.Values) error
	}); ok {
		if err := p.bind(r.URL.Path, r.URL.Query()); err != nil {
			return nil, err
		}
	}
	if v, ok := any(&out.req).(Validator); ok {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	if d.opts.Idempotency != nil {
		key, err := readIdempotencyKey(r, raw)
		if err != nil {
			return nil, err
		}
		out.key = key
	}
	return out, nil
}

func readBody(r *http.Request) ([]byte, error) {
	//bound:exempt the handler has put a MaxBytesReader around it
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		return raw, nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, problem.TooLarge()
	}
	return nil, problem.Malformed("the body ended early")
}

func decodeBody(r *http.Request, raw []byte, into any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problem.Unsupported("application/json")
	}
	if first := bytes.TrimLeft(raw, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return problem.Malformed("the body must be a JSON object")
	}
	// Names are as the document writes them, each stands once, none is unknown, and texts are Unicode.
	err := json.Unmarshal(raw, into, json.RejectUnknownMembers(true))
	var wrong *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsontext.ErrDuplicateName):
		return problem.Malformed("a name stands twice in an object")
	case !errors.As(err, &wrong):
		return problem.Malformed("the body is not one JSON object in valid Unicode")
	}
	field := strings.TrimPrefix(string(wrong.JSONPointer), "/")
	if errors.Is(err, json.ErrUnknownName) {
		return Invalid(map[string]string{field: "is not known"})
	}
	return Invalid(map[string]string{field: "must be " + typeName(wrong.GoType)})
}

// setParams fills what comes from the path and the query, and clears what the body put there.
func (d *decoder[Req]) setParams(r *http.Request, req reflect.Value) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.Malformed("the query of the address can't be read")
	}
	faults := map[string]string{}
	for name := range query {
		if !slices.ContainsFunc(d.params, func(p param) bool { return !p.path && p.name == name }) {
			faults[strings.ToValidUTF8(name, "?")] = "is not known"
		}
	}
	for _, p := range d.params {
		field := req.FieldByIndex(p.index)
		field.SetZero()
		var values []string
		if p.path {
			values = []string{r.PathValue(p.name)}
		} else if values = query[p.name]; len(values) == 0 {
			continue
		}
		if fault := set(field, values); fault != "" {
			faults[p.name] = fault
		}
	}
	if len(faults) > 0 {
		return Invalid(faults)
	}
	return nil
}

// set gives a field its parameter; a fault says what the parameter must be.
func set(field reflect.Value, values []string) (fault string) {
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		return set(field.Elem(), values)
	}
	if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String {
		field.Set(reflect.ValueOf(values).Convert(field.Type()))
		return ""
	}
	if len(values) > 1 {
		return "must be given once"
	}
	if !utf8.ValidString(values[0]) {
		return "must be in UTF-8"
	}
	var err error
	switch {
	case field.Type() == reflect.TypeFor[time.Time]():
		var t time.Time
		t, err = time.Parse(time.RFC3339Nano, values[0])
		field.Set(reflect.ValueOf(t))
	case field.Kind() == reflect.String:
		field.SetString(values[0])
	case field.CanInt():
		var n int64
		n, err = strconv.ParseInt(values[0], 10, field.Type().Bits())
		field.SetInt(n)
	case field.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(values[0])
		field.SetBool(b)
	default:
		panic(fmt.Sprintf("endpointx: a parameter can't be a %s", field.Type()))
	}
	if err != nil {
		return "must be " + typeName(field.Type())
	}
	return ""
}

func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "a time (RFC 3339)"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t == reflect.TypeFor[[]byte]():
		return "base64"
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		return "a list"
	case t.Kind() == reflect.Map || t.Kind() == reflect.Struct:
		return "an object"
	case reflect.Zero(t).CanInt(), reflect.Zero(t).CanUint():
		return "a whole number"
	}
	return "a number"
}
