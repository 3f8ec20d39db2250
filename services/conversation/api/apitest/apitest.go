// Package apitest asks the conversation API in tests: its real handlers, without a server.
package apitest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"tributary.dev/libs/access"
	"tributary.dev/libs/app"
)

// Handler serves routes to a caller.
func Handler(routes []app.Route, caller access.Caller) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(access.With(r.Context(), caller)))
	})
}

// Owner is a caller who may do everything in a workspace.
func Owner(workspace string) access.Caller {
	return access.Caller{KeyID: "key", WorkspaceID: workspace, Role: access.Owner, MemberID: "member", Scopes: access.RoleScopes(access.Owner)}
}

// Dump gives everything that the API answers of a workspace: every list, a page at a time and both ways,
// and every item. Two databases that hold the same events give the same bytes.
func Dump(t testing.TB, routes []app.Route, workspace string) []byte {
	t.Helper()
	d := &dump{t: t, h: Handler(routes, Owner(workspace))}
	for _, contact := range d.list("/v1/contacts", nil) {
		d.get("/v1/contacts/" + contact)
		for _, kind := range []string{"order", "checkout"} {
			d.list("/v1/contacts/"+contact+"/orders", url.Values{"kind": {kind}})
		}
	}
	for _, conversation := range d.list("/v1/conversations", nil) {
		d.get("/v1/conversations/" + conversation)
		at := "/v1/conversations/" + conversation + "/messages"
		d.list(at, url.Values{"order": {"asc"}})
		for _, message := range d.list(at, nil) {
			d.get("/v1/messages/" + message)
		}
	}
	return d.out.Bytes()
}

type dump struct {
	t   testing.TB
	h   http.Handler
	out bytes.Buffer
}

func (d *dump) get(path string) []byte {
	d.t.Helper()
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		d.t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	d.out.WriteString(path + "\n")
	d.out.Write(w.Body.Bytes())
	return w.Body.Bytes()
}

// list asks for all pages, three items each, and gives the items' ids.
func (d *dump) list(path string, query url.Values) (ids []string) {
	d.t.Helper()
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "3")
	for {
		var page struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(d.get(path+"?"+query.Encode()), &page); err != nil {
			d.t.Fatal(err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if page.NextCursor == "" {
			return ids
		}
		query.Set("cursor", page.NextCursor)
	}
}
