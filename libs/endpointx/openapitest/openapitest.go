// Package openapitest holds handlers' answers against an OpenAPI document.
package openapitest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Load reads a document.
func Load(t testing.TB, text []byte) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Check fails the test where the answer w to r, by the route of a ServeMux pattern ("GET /v1/contacts"), is
// not as the document says. Of bodies only JSON is looked at.
func Check(t testing.TB, doc *openapi3.T, pattern string, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	item := doc.Paths.Find(path)
	if item == nil || item.GetOperation(method) == nil {
		t.Fatalf("%s is not documented", pattern)
	}
	if !strings.Contains(w.Header().Get("Content-Type"), "json") {
		return
	}
	err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: &routers.Route{
			Spec: doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method),
		}},
		Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
	})
	if err != nil {
		t.Errorf("%s %s is not as documented: %v\n%s", r.Method, r.URL.Path, err, w.Body)
	}
}
