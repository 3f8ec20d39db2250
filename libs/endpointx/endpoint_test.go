package endpointx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
)

type item struct {
	ID       string            `path:"id" json:"-"`
	Dry      bool              `query:"dry" json:"-"`
	Tags     []string          `query:"tag" json:"-"`
	Since    *time.Time        `query:"since" json:"-"`
	Text     string            `json:"text"`
	Count    int               `json:"count"`
	Settings map[string]string `json:"settings"`
	Nested   struct {
		Flag bool `json:"flag"`
	} `json:"nested"`
}

func (i *item) Validate() error {
	if i.Text == "" {
		return endpointx.Invalid(map[string]string{"text": "is required"})
	}
	return nil
}

type doc struct {
	Type, Title, Code, Detail string
	Status                    int
	Fields                    map[string]string
}

func serve(h http.Handler, r *http.Request) (*httptest.ResponseRecorder, doc) {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/items/{id}", h)
	w := httptest.NewRecorder()
	endpointx.Fallback(mux).ServeHTTP(w, r)
	var d doc
	_ = json.Unmarshal(w.Body.Bytes(), &d)
	return w, d
}

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func echo(opts endpointx.Options) http.Handler {
	return endpointx.JSON(opts, func(_ context.Context, i item) (item, error) { return i, nil })
}

func TestJSONRefusesBadInputAndNamesTheField(t *testing.T) {
	for name, test := range map[string]struct {
		path, body, contentType string
		status                  int
		code, field             string
	}{
		"no JSON":                     {body: `{"text":`, status: 400, code: "malformed"},
		"nothing":                     {body: ``, status: 400, code: "malformed"},
		"a list":                      {body: `[1]`, status: 400, code: "malformed"},
		"null":                        {body: `null`, status: 400, code: "malformed"},
		"something after the object":  {body: `{"text":"a"} {}`, status: 400, code: "malformed"},
		"an unknown field":            {body: `{"text":"a","colour":"red"}`, status: 422, code: "invalid", field: "colour"},
		"a field of the wrong type":   {body: `{"text":7}`, status: 422, code: "invalid", field: "text"},
		"a nested field's wrong type": {body: `{"text":"a","nested":{"flag":"x"}}`, status: 422, code: "invalid", field: "nested/flag"},
		"a number that does not fit":  {body: `{"text":"a","count":1e99}`, status: 422, code: "invalid", field: "count"},
		"a field that is not valid":   {body: `{"text":""}`, status: 422, code: "invalid", field: "text"},
		"a parameter of a wrong type": {path: "/v1/items/7?dry=perhaps", body: `{"text":"a"}`, status: 422, code: "invalid", field: "dry"},
		"a parameter given twice":     {path: "/v1/items/7?dry=1&dry=0", body: `{"text":"a"}`, status: 422, code: "invalid", field: "dry"},
		"a time that is none":         {path: "/v1/items/7?since=today", body: `{"text":"a"}`, status: 422, code: "invalid", field: "since"},
		"a parameter that is unknown": {path: "/v1/items/7?dry=1&colour=red", body: `{"text":"a"}`, status: 422, code: "invalid", field: "colour"},
		"a path value as parameter":   {path: "/v1/items/7?id=8", body: `{"text":"a"}`, status: 422, code: "invalid", field: "id"},
		"a path that is not UTF-8":    {path: "/v1/items/%ff", body: `{"text":"a"}`, status: 422, code: "invalid", field: "id"},
		"a name that stands twice":    {body: `{"text":"a","text":"b"}`, status: 400, code: "malformed"},
		"a name of other letters":     {body: `{"Text":"a"}`, status: 422, code: "invalid", field: "Text"},
		"an unknown name deep inside": {body: `{"text":"a","nested":{"colour":1}}`, status: 422, code: "invalid", field: "nested/colour"},
		"a query that is none":        {path: "/v1/items/7?dry=%zz", body: `{"text":"a"}`, status: 400, code: "malformed"},
		"bytes that are not UTF-8":    {body: "{\"text\":\"a\xff\"}", status: 400, code: "malformed"},
		"the first half of a pair":    {body: `{"text":"a\ud83d"}`, status: 400, code: "malformed"},
		"the second half of a pair":   {body: `{"text":"\\\uDE00"}`, status: 400, code: "malformed"},
		"two first halves":            {body: `{"text":"\ud83d\ud83d\ude00"}`, status: 400, code: "malformed"},
		"half a pair and no escape":   {body: `{"text":"\ud83d\n12345"}`, status: 400, code: "malformed"},
		"another content type":        {body: `{"text":"a"}`, contentType: "text/plain", status: 415, code: "unsupported_type"},
		"a body that is too large":    {body: `{"text":"` + strings.Repeat("a", 300) + `"}`, status: 413, code: "too_large"},
		"a path that nothing serves":  {path: "/v1/none", body: `{}`, status: 404, code: "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.path == "" {
				test.path = "/v1/items/7"
			}
			r := post(test.path, test.body)
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			w, d := serve(echo(endpointx.Options{MaxBody: 256}), r)
			require.Equal(t, test.status, w.Code, w.Body.String())
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			require.Equal(t, test.code, d.Code)
			require.Equal(t, test.status, d.Status)
			require.NotEmpty(t, d.Title)
			require.Equal(t, "urn:tributary:problem:"+test.code, d.Type)
			if test.field != "" {
				require.Contains(t, d.Fields, test.field)
			}
		})
	}
}

func TestJSONTakesPathAndQueryFromTheAddressAlone(t *testing.T) {
	var got item
	h := endpointx.JSON(endpointx.Options{Status: http.StatusCreated}, func(_ context.Context, i item) (map[string]string, error) {
		got = i
		return map[string]string{"html": "<b>"}, nil
	})
	w, _ := serve(h, post("/v1/items/7?tag=a&tag=b&since=2026-01-02T03:04:05Z", `{"text":"x","count":2,"settings":{"a":"b"}}`))
	require.Equal(t, http.StatusCreated, w.Code)
	require.JSONEq(t, `{"html":"<b>"}`, w.Body.String())
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "7", got.ID)
	require.Equal(t, []string{"a", "b"}, got.Tags)
	require.Equal(t, 2, got.Count)
	require.True(t, got.Since.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))

	type open struct {
		ID   string `path:"id"`
		Text string `json:"text"`
	}
	h = endpointx.JSON(endpointx.Options{}, func(_ context.Context, o open) (open, error) { return o, nil })
	w, _ = serve(h, post("/v1/items/7", `{"ID":"another","text":"x"}`))
	require.Equal(t, http.StatusOK, w.Code)
	require.NotContains(t, w.Body.String(), "another")
}

func TestJSONTakesEscapesAsTheyAreMeant(t *testing.T) {
	for sent, want := range map[string]string{
		`\ud83d\uDE00\u00e9`: "😀é", `\\ud83d`: `\ud83d`, `\\\\u`: `\\u`, `\"\ud83d\ude00\"`: `"😀"`, `\ufffd`: "\ufffd",
	} {
		var got string
		h := endpointx.JSON(endpointx.Options{}, func(_ context.Context, i item) (item, error) { got = i.Text; return i, nil })
		w, _ := serve(h, post("/v1/items/7", `{"text":"`+sent+`"}`))
		require.Equal(t, http.StatusOK, w.Code, sent)
		require.Equal(t, want, got)
	}
}

func TestJSONSaysThatTheStoreIsAwayAndWhenToComeBack(t *testing.T) {
	db := sqltest.SQLite(t, nil)
	h := endpointx.JSON(endpointx.Options{}, func(ctx context.Context, _ item) (any, error) {
		return nil, fmt.Errorf("kept: %w", db.Tx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "PRAGMA max_page_count = 1; CREATE TABLE kept (a BLOB); INSERT INTO kept VALUES (zeroblob(1000000))")
			return err
		}))
	})
	w, d := serve(h, post("/v1/items/7", `{"text":"a"}`))
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body.String())
	require.Equal(t, "unavailable", d.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
}

func TestJSONHidesFaultsOfOurs(t *testing.T) {
	const canary = "canary-of-an-internal-error"
	var out bytes.Buffer
	tel, err := telemetry.New(telemetry.Config{Service: "x", LogOutput: &out})
	require.NoError(t, err)
	for name, f := range map[string]func() error{
		"an error":       func() error { return errors.New(`column "` + canary + `"`) },
		"a panic":        func() error { panic(canary) },
		"a panic of one": func() error { panic(errors.New(canary)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := endpointx.JSON(endpointx.Options{}, func(context.Context, item) (any, error) { return nil, f() })
			r := post("/v1/items/7", `{"text":"a"}`)
			w, d := serve(h, r.WithContext(telemetry.With(r.Context(), tel)))
			require.Equal(t, http.StatusInternalServerError, w.Code)
			require.Equal(t, "internal", d.Code)
			require.NotContains(t, w.Body.String(), canary)
			require.NotContains(t, out.String(), canary)
			require.NotEmpty(t, out.String(), "a fault of ours is logged")
		})
	}
}

func TestJSONEndsInTime(t *testing.T) {
	h := endpointx.JSON(endpointx.Options{Timeout: time.Millisecond}, func(ctx context.Context, _ item) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	w, d := serve(h, post("/v1/items/7", `{"text":"a"}`))
	require.Equal(t, http.StatusGatewayTimeout, w.Code)
	require.Equal(t, "timeout", d.Code)
}

func TestJSONChecksTheScopeBeforeTheBody(t *testing.T) {
	h := echo(endpointx.Options{Scope: access.ContactsRead})
	w, _ := serve(h, post("/v1/items/7", `{`))
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer")

	r := post("/v1/items/7", `{`)
	r = r.WithContext(access.With(r.Context(), access.Caller{WorkspaceID: "w", Scopes: []string{access.AppsRead}}))
	w, d := serve(h, r)
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Equal(t, "missing_scope", d.Code)
	require.Contains(t, d.Detail, access.ContactsRead)
}

func TestJSONLimitsAWorkspaceAndNotItsNeighbour(t *testing.T) {
	h := echo(endpointx.Options{Rate: 1})
	call := func(workspace string) int {
		r := post("/v1/items/7", `{"text":"a"}`)
		w, _ := serve(h, r.WithContext(access.With(r.Context(), access.Caller{WorkspaceID: workspace})))
		if w.Code == http.StatusTooManyRequests {
			require.Equal(t, "1", w.Header().Get("Retry-After"))
		}
		return w.Code
	}
	require.Equal(t, []int{200, 200, 429}, []int{call("a"), call("a"), call("a")})
	require.Equal(t, 200, call("b"))
}

func TestFallbackNamesTheMethodsAllowed(t *testing.T) {
	w, d := serve(echo(endpointx.Options{}), httptest.NewRequest(http.MethodDelete, "/v1/items/7", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "method_not_allowed", d.Code)
	require.Equal(t, "POST", w.Header().Get("Allow"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
}

func TestCursors(t *testing.T) {
	c := endpointx.EncodeCursor(int64(1_700_000_000_000_001), "id/ä")
	var at int64
	var id string
	require.NoError(t, endpointx.DecodeCursor("cursor", c, &at, &id))
	require.Equal(t, int64(1_700_000_000_000_001), at)
	require.Equal(t, "id/ä", id)
	for _, bad := range []string{"", "1.", "x", "2." + c[2:], c[:len(c)-2], c + "!", c + "\n", endpointx.EncodeCursor(1, "a\x00"), endpointx.EncodeCursor("a", "b"), endpointx.EncodeCursor(1), endpointx.EncodeCursor(nil, "b")} {
		err := endpointx.DecodeCursor("cursor", bad, &at, &id)
		var p *endpointx.Problem
		require.ErrorAs(t, err, &p, bad)
		require.Contains(t, p.Fields, "cursor")
	}
}

func TestPagingBoundsTheLimit(t *testing.T) {
	type list struct{ endpointx.Paging }
	h := endpointx.JSON(endpointx.Options{}, func(_ context.Context, l list) (int, error) { return l.Size(), nil })
	mux := http.NewServeMux()
	mux.Handle("GET /v1/items", h)
	for query, status := range map[string]int{"": 200, "?limit=200": 200, "?limit=0": 422, "?limit=201": 422, "?limit=x": 422} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/items"+query, nil))
		require.Equal(t, status, w.Code, query)
		if query == "" {
			body, _ := io.ReadAll(w.Body)
			require.Equal(t, "50\n", string(body))
		}
	}
}
