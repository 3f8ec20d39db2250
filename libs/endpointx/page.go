package endpointx

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// Page of a list.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// Paging is embedded in the request of a list.
type Paging struct {
	// Limit is 1 to 200; Size gives 50 where it was left out.
	Limit  *int   `query:"limit" json:"-"`
	Cursor string `query:"cursor" json:"-"`
}

// Validate implements Validator.
func (p *Paging) Validate() error {
	if p.Limit != nil && (*p.Limit < 1 || *p.Limit > 200) {
		return Invalid(map[string]string{"limit": "must be from 1 to 200"})
	}
	return nil
}

// Size of the page asked for.
func (p *Paging) Size() int {
	if p.Limit == nil {
		return 50
	}
	return *p.Limit
}

// cursorVersion stands before every cursor, so that its content may change.
const cursorVersion = "1."

// EncodeCursor makes an opaque cursor of a list's last sort key: values that JSON can hold.
func EncodeCursor(key ...any) string {
	raw, err := json.Marshal(key)
	if err != nil {
		panic("endpointx: a cursor's key must be JSON: " + err.Error())
	}
	return cursorVersion + base64.RawURLEncoding.EncodeToString(raw)
}

// DecodeCursor reads a cursor into pointers to the key's values; one that is none of ours is Invalid, with
// param named.
func DecodeCursor(param, cursor string, key ...any) error {
	fault := Invalid(map[string]string{param: "is not a cursor that this list gave"})
	encoded, ok := strings.CutPrefix(cursor, cursorVersion)
	if !ok {
		return fault
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return fault
	}
	var values []json.RawMessage
	if json.Unmarshal(raw, &values) != nil || len(values) != len(key) {
		return fault
	}
	for i, v := range values {
		if bytes.Equal(v, []byte("null")) || json.Unmarshal(v, key[i]) != nil {
			return fault
		}
	}
	return nil
}
