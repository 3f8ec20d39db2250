package endpointx

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
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
	// list tells which list this is, and how it is filtered.
	list string
}

// bind notes which list is asked for: a cursor is good for the path and the query that it was given for.
func (p *Paging) bind(path string, query url.Values) error {
	if query.Has("cursor") && p.Cursor == "" {
		return Invalid(map[string]string{"cursor": "must not be empty"})
	}
	query.Del("cursor")
	query.Del("limit")
	sum := sha256.Sum256([]byte(path + "?" + query.Encode()))
	p.list = base64.RawURLEncoding.EncodeToString(sum[:8])
	return nil
}

// Behind reads into pointers the sort key behind which the page begins; the first page leaves them as they
// are. A cursor that is none of ours, or of another list or filter, is Invalid.
func (p *Paging) Behind(key ...any) error {
	if p.Cursor == "" {
		return nil
	}
	var list string
	if err := DecodeCursor("cursor", p.Cursor, append([]any{&list}, key...)...); err != nil {
		return err
	}
	if list != p.list {
		return Invalid(map[string]string{"cursor": "is not a cursor that this list gave"})
	}
	return nil
}

// Next is the cursor of the page behind the one that ends with a sort key.
func (p *Paging) Next(key ...any) string { return EncodeCursor(append([]any{p.list}, key...)...) }

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
	// No text of ours has the NUL that PostgreSQL takes in none.
	if err != nil || strings.ContainsAny(encoded, "\r\n") || bytes.Contains(raw, []byte(`\u0000`)) {
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
