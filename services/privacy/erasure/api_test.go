package erasure

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/openapitest"
	"tributary.dev/services/privacy/certificate"
)

var owner = access.Caller{KeyID: "key", WorkspaceID: "w", Role: access.Owner, Scopes: access.RoleScopes(access.Owner)}

// faces calls the handlers and holds each answer against the document.
func (b *bench) faces(t *testing.T) func(c access.Caller, method, path, body, idempotencyKey string) *httptest.ResponseRecorder {
	t.Helper()
	text, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc := openapitest.Load(t, text)
	mux := http.NewServeMux()
	routes := b.Routes(endpointx.NewIdempotency(b.store.db, []byte("secret"), b.now))
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	documented := 0
	for _, item := range doc.Paths.Map() {
		documented += len(item.Operations())
	}
	if documented != len(routes) {
		t.Errorf("%d operations are documented and %d routes served", documented, len(routes))
	}
	return func(c access.Caller, method, path, body, idempotencyKey string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if idempotencyKey != "" {
			r.Header.Set("Idempotency-Key", idempotencyKey)
		}
		r = r.WithContext(access.With(r.Context(), c))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		_, pattern := mux.Handler(r)
		openapitest.Check(t, doc, pattern, r, w)
		return w
	}
}

func TestTheAPIAnswersAsDocumented(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		// Ids as the document wants them.
		const contact = "5a1c6a34-7d0c-4cfb-9f1e-0d9d7a6a3b11"
		record := b.mesh.contacts["contact"]
		b.mesh.contacts[contact] = record
		call := b.faces(t)
		agent := access.Caller{WorkspaceID: "w", Role: access.Agent, Scopes: access.RoleScopes(access.Agent)}
		stranger := owner
		stranger.WorkspaceID = "another"
		good := `{"type":"erasure","contact_id":"` + contact + `"}`

		for name, c := range map[string]struct {
			caller access.Caller
			body   string
			want   int
			names  string
		}{
			"an agent":               {agent, good, 403, "privacy:write"},
			"another workspace":      {stranger, good, 404, "contact"},
			"a type there is not":    {owner, `{"type":"access","contact_id":"` + contact + `"}`, 422, `"type"`},
			"no contact":             {owner, `{"type":"erasure"}`, 422, `"contact_id"`},
			"a field there is not":   {owner, `{"type":"erasure","contact_id":"x","now":true}`, 422, `"now"`},
			"not JSON":               {owner, `{"type":`, 400, "malformed"},
			"a contact there is not": {owner, strings.Replace(good, "5a1c", "5a1d", 1), 404, "contact"},
		} {
			if w := call(c.caller, "POST", "/v1/privacy/requests", c.body, ""); w.Code != c.want || !strings.Contains(w.Body.String(), c.names) {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}

		w := call(owner, "POST", "/v1/privacy/requests", good, "once")
		if w.Code != http.StatusCreated {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		first := w.Body.String()
		if again := call(owner, "POST", "/v1/privacy/requests", good, "once"); again.Code != 201 || again.Body.String() != first {
			t.Errorf("repeated: %d %s", again.Code, again.Body)
		}
		if joined := call(owner, "POST", "/v1/privacy/requests", good, ""); joined.Code != 200 || joined.Body.String() != first {
			t.Errorf("asked for again: %d %s", joined.Code, joined.Body)
		}
		if other := call(owner, "POST", "/v1/privacy/requests", strings.Replace(good, "{", "{ ", 1), "once"); other.Code != 409 {
			t.Errorf("another body under the same key: %d", other.Code)
		}
		_, rest, _ := strings.Cut(first, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)

		if w := call(owner, "GET", "/v1/privacy/requests/"+id+"/certificate", "", ""); w.Code != 404 {
			t.Errorf("a certificate before its time: %d", w.Code)
		}
		b.settle(t)
		b.at = b.at.Add(2 * time.Minute)
		b.settle(t)
		for _, h := range b.mesh.holders {
			b.answer(t, id, h, subjectA, 1, 1, "")
		}
		b.settle(t)
		if w := call(owner, "GET", "/v1/privacy/requests/"+id, "", ""); !strings.Contains(w.Body.String(), `"status":"completed"`) {
			t.Fatalf("%s", w.Body)
		}
		for _, path := range []string{"/v1/privacy/requests/" + id, "/v1/privacy/requests/" + id + "/certificate"} {
			if w := call(stranger, "GET", path, "", ""); w.Code != 404 {
				t.Errorf("%s of another workspace: %d", path, w.Code)
			}
			if w := call(agent, "GET", path, "", ""); w.Code != 403 {
				t.Errorf("%s by an agent: %d", path, w.Code)
			}
		}
		if w := call(owner, "GET", "/v1/privacy/requests?limit=1", "", ""); w.Code != 200 || !strings.Contains(w.Body.String(), id) || strings.Contains(w.Body.String(), "next_cursor") {
			t.Errorf("list: %d %s", w.Code, w.Body)
		}
		if w := call(owner, "GET", "/v1/privacy/requests?cursor=nonsense", "", ""); w.Code != 422 || !strings.Contains(w.Body.String(), `"cursor"`) {
			t.Errorf("cursor: %d %s", w.Code, w.Body)
		}
		key, err := certificate.DecodeKey(call(access.Caller{}, "GET", "/v1/privacy/certificate-key", "", "").Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		file := call(owner, "GET", "/v1/privacy/requests/"+id+"/certificate", "", "").Body.Bytes()
		if _, err := certificate.Verify(file, key); err != nil {
			t.Errorf("the certificate as served: %v", err)
		}
	})
}
