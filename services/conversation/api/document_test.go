package api_test

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/store"
)

func TestTheDocumentNamesWhatTheHandlersServeAndNothingElse(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, store.Migrations()), api.Limits{})
	if err := h.doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	var served, documented []string
	for _, r := range h.api.Routes() {
		if r.Public {
			t.Errorf("%s needs no API key", r.Pattern)
		}
		served = append(served, r.Pattern)
	}
	for path, item := range h.doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(documented)
	if !slices.Equal(served, documented) {
		t.Fatalf("served:     %v\ndocumented: %v", served, documented)
	}
}

func TestEveryOperationNeedsItsScope(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, store.Migrations()), api.Limits{})
	for path, item := range h.doc.Paths.Map() {
		for method := range item.Operations() {
			h.as(callerWithout())
			h.do(method, path, "{}").problem(http.StatusForbidden, "missing_scope")
		}
	}
}
