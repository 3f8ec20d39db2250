package channel

import (
	"bytes"
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// strict stops at a field of an unexpected type. It is much the faster, and hardly any body has one.
var strict = jsontext.AllowInvalidUTF8(true)

// lenient leaves such a field empty.
var lenient = json.JoinOptions(jsonv1.ReportErrorsWithLegacySemantics(true), strict)

// errNotJSON says nothing of what was read: that may be anybody's.
var errNotJSON = errors.New("channel: not JSON")

// Decode reads into v, a pointer, what v knows of a provider's JSON. A field of an unexpected type stays empty and fails nothing: providers
// add and change fields, and a message is not lost for that. A name that stands twice in an object is refused. Names are
// as they are written, in small letters and large.
func Decode(data []byte, v any) error {
	if json.Unmarshal(data, v, strict) == nil {
		return nil
	}
	reflect.ValueOf(v).Elem().SetZero()
	err := json.Unmarshal(data, v, lenient)
	var odd *jsonv1.UnmarshalTypeError
	if err == nil || errors.As(err, &odd) {
		return nil
	}
	return errNotJSON
}

// DecodeObject is Decode where nothing but an object will do.
func DecodeObject(data []byte, v any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return errNotJSON
	}
	return Decode(data, v)
}
