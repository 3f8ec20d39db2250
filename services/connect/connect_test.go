package connect

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/endpointx/openapitest"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const keeperURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="

// house is the service's handlers on a database and a bus of the test's own.
type house struct {
	*testing.T
	s    *service
	dir  string
	cfg  *Config
	deps *app.Deps
	bus  *bus.Bus
	mux  *http.ServeMux
	doc  *openapi3.T
	skew atomic.Int64 // microseconds that the clock is ahead
	// Callers: the operator's owner, and the owner of another workspace.
	operator, other access.Caller
}

func newHouse(t *testing.T, db *sqldb.DB, b *bus.Bus) *house {
	t.Helper()
	h := &house{T: t, dir: t.TempDir(), bus: b, mux: http.NewServeMux()}
	c := &clock.Clock{Local: func() time.Time { return time.Now().Add(time.Duration(h.skew.Load()) * time.Microsecond) }}
	require.NoError(t, b.EnsureTopics(t.Context(), append(accounts.Topics(), access.Topic(), inbound.Revocations())...))
	keepers, err := openKeepers(t.Context(), app.Common{KeeperURL: keeperURL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, keepers.close()) })
	require.NoError(t, bootstrap(t.Context(), db, h.dir, false, c.Now, slog.New(slog.DiscardHandler)))
	h.cfg = Service.Config().(*Config)
	nobodyAnswers(h.cfg)
	h.deps = &app.Deps{
		Settings: h.cfg, Clock: c, Bus: b, HTTP: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}, Telemetry: telemetry.Discard(),
		Secret: func(purpose string) []byte { return []byte(purpose) },
	}
	h.rebuild(db, keepers)
	h.doc, err = openapi3.NewLoader().LoadFromData(openAPI)
	require.NoError(t, err)

	h.operator = h.callerOf(h.readKeyFile())
	_, text := h.newWorkspace("Other")
	h.other = h.callerOf(text)
	return h
}

// nobodyAnswers has every provider lie where nobody listens.
func nobodyAnswers(cfg *Config) {
	p := &cfg.Providers
	for _, address := range []*string{&p.SlackURL, &p.GraphURL, &p.ShopURL, &p.TwilioURL, &p.VonageURL, &p.PostmarkURL} {
		*address = "http://127.0.0.1:1"
	}
}

// rebuild makes the service of the house's settings.
func (h *house) rebuild(db *sqldb.DB, keepers *keepers) {
	h.Helper()
	var err error
	h.s, err = newService(h.cfg, h.deps, db, keepers)
	require.NoError(h, err)
	h.mux = http.NewServeMux()
	for _, r := range h.s.routes() {
		h.mux.Handle(r.Pattern, r.Handler)
	}
}

// each runs a test on both databases, on the embedded broker.
func each(t *testing.T, test func(h *house)) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) { test(newHouse(t, db, bustest.Embedded(t))) })
}

func (h *house) readKeyFile() string {
	h.Helper()
	return strings.TrimSpace(readFile(h.T, filepath.Join(h.dir, KeyFile)))
}

// callerOf is the caller that a key's text makes.
func (h *house) callerOf(text string) access.Caller {
	h.Helper()
	id, secret, ok := access.Parse(text)
	require.True(h, ok, "a key: %s", text)
	k := h.accessKey(id)
	require.Equal(h, access.Hash(secret), k.GetHash())
	return access.Caller{
		KeyID: id, WorkspaceID: k.GetWorkspaceId(), Role: k.GetRole(), MemberID: k.GetMemberId(), Operator: k.GetOperator(),
		Scopes: access.EffectiveScopes(k.GetRole(), k.GetScopes(), k.GetOperator()),
	}
}

func (h *house) newWorkspace(name string) (id, key string) {
	h.Helper()
	w := h.as(h.operator).post("/v1/workspaces", map[string]any{"name": name}).is(http.StatusCreated).object()
	return w["id"].(string), w["api_key"].(map[string]any)["key"].(string)
}

// client calls as somebody.
type client struct {
	h       *house
	caller  access.Caller
	idemKey string
}

func (h *house) as(c access.Caller) client { return client{h: h, caller: c} }

func (c client) with(idempotencyKey string) client { c.idemKey = idempotencyKey; return c }

func (c client) get(path string) answer    { c.h.Helper(); return c.do(http.MethodGet, path, nil) }
func (c client) delete(path string) answer { c.h.Helper(); return c.do(http.MethodDelete, path, nil) }
func (c client) post(path string, body any) answer {
	c.h.Helper()
	return c.do(http.MethodPost, path, body)
}
func (c client) patch(path string, body any) answer {
	c.h.Helper()
	return c.do(http.MethodPatch, path, body)
}

type answer struct {
	h *house
	*httptest.ResponseRecorder
}

// do calls a handler and holds its answer against the document.
func (c client) do(method, path string, body any) answer {
	c.h.Helper()
	var raw []byte
	if body != nil {
		var err error
		raw, err = json.Marshal(body)
		require.NoError(c.h, err)
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(raw))
	r.Header.Set("Content-Type", "application/json")
	if c.idemKey != "" {
		r.Header.Set("Idempotency-Key", c.idemKey)
	}
	r = r.WithContext(access.With(r.Context(), c.caller))
	w := httptest.NewRecorder()
	c.h.mux.ServeHTTP(w, r)
	_, pattern := c.h.mux.Handler(r)
	openapitest.Check(c.h, c.h.doc, pattern, r, w)
	return answer{c.h, w}
}

func (a answer) is(status int) answer {
	a.h.Helper()
	require.Equal(a.h, status, a.Code, a.Body.String())
	return a
}

func (a answer) object() map[string]any {
	a.h.Helper()
	var m map[string]any
	require.NoError(a.h, json.Unmarshal(a.Body.Bytes(), &m), a.Body.String())
	return m
}

func (a answer) id() string { a.h.Helper(); return a.object()["id"].(string) }

// problem checks the answer, and that exactly the fields given are at fault.
func (a answer) problem(status int, code string, fields ...string) {
	a.h.Helper()
	a.is(status)
	var p struct {
		Code   string
		Fields map[string]string
	}
	require.NoError(a.h, json.Unmarshal(a.Body.Bytes(), &p))
	require.Equal(a.h, code, p.Code)
	var got []string
	for f := range p.Fields {
		got = append(got, f)
	}
	require.ElementsMatch(a.h, fields, got, a.Body.String())
}

// ids of a list, all pages, one item each.
func (c client) ids(path string, query url.Values) (ids []string) {
	c.h.Helper()
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "1")
	for {
		page := c.get(path + "?" + query.Encode()).is(http.StatusOK).object()
		for _, item := range page["items"].([]any) {
			ids = append(ids, item.(map[string]any)["id"].(string))
		}
		cursor, more := page["next_cursor"].(string)
		if !more {
			return ids
		}
		query.Set("cursor", cursor)
	}
}

func slackApp(name string) map[string]any {
	return map[string]any{
		"channel": "slack", "name": name, "client_id": "1.2", "external_id": "A1",
		"secrets": map[string]any{"signing_secret": "canary-signing", "client_secret": "canary-client"},
	}
}

func smsAccount(number string) map[string]any {
	return map[string]any{
		"channel": "sms", "external_id": number, "settings": map[string]any{"messages_per_second": "2"},
		"credentials": map[string]any{"account_sid": "AC1", "auth_token": "canary-token"},
	}
}

func TestTheDocumentNamesWhatTheHandlersServeAndNothingElse(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	var served, documented []string
	for _, r := range (&service{}).routes() {
		if r.Public { // pages, for browsers
			require.Contains(t, r.Pattern, " /connect/")
			continue
		}
		served = append(served, r.Pattern)
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(documented)
	require.Equal(t, served, documented)
}

func TestEveryOperationNeedsItsScope(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	for path, item := range h.doc.Paths.Map() {
		for method := range item.Operations() {
			h.as(access.Caller{WorkspaceID: h.operator.WorkspaceID, Role: access.Owner}).do(method, path, nil).problem(http.StatusForbidden, "missing_scope")
		}
	}
}

func TestWorkspacesAreTheOperatorsToMake(t *testing.T) {
	each(t, func(h *house) {
		require.True(h, h.operator.Operator)
		require.False(h, h.other.Operator)
		h.as(h.other).post("/v1/workspaces", map[string]any{"name": "x"}).problem(http.StatusForbidden, "missing_scope")
		h.as(h.operator).post("/v1/workspaces", map[string]any{"name": " "}).problem(http.StatusUnprocessableEntity, "invalid", "name")
		require.Len(h, h.as(h.operator).ids("/v1/workspaces", nil), 2)

		first := h.as(h.operator).with("k").post("/v1/workspaces", map[string]any{"name": "y"}).is(http.StatusCreated).object()
		again := h.as(h.operator).with("k").post("/v1/workspaces", map[string]any{"name": "y"}).is(http.StatusCreated).object()
		require.Equal(h, first["id"], again["id"])
		require.Contains(h, first, "api_key")
		require.NotContains(h, again, "api_key", "a key is handed out once")
	})
}

func TestMembers(t *testing.T) {
	each(t, func(h *house) {
		c := h.as(h.other)
		c.post("/v1/members", map[string]any{"name": "", "role": "king"}).problem(http.StatusUnprocessableEntity, "invalid", "name", "role")
		id := c.post("/v1/members", map[string]any{"name": "Ann", "role": "agent"}).is(http.StatusCreated).id()
		require.Contains(h, c.ids("/v1/members", nil), id)
		require.NotContains(h, h.as(h.operator).ids("/v1/members", nil), id)
	})
}

func TestKeys(t *testing.T) {
	each(t, func(h *house) {
		c := h.as(h.other)
		k := c.post("/v1/keys", map[string]any{"name": "bot", "role": "agent", "scopes": []string{access.ContactsRead}}).is(http.StatusCreated).object()
		id := k["id"].(string)
		caller := h.callerOf(k["key"].(string))
		require.Equal(h, []string{access.ContactsRead}, caller.Scopes, "published when it was answered")
		require.Equal(h, h.other.WorkspaceID, caller.WorkspaceID)
		require.NotContains(h, c.get("/v1/keys").is(http.StatusOK).Body.String(), k["key"], "and never shown again")

		c.post("/v1/keys", map[string]any{"name": "x", "role": "agent", "scopes": []string{access.PrivacyWrite}, "expires_at": "soon"}).
			problem(http.StatusUnprocessableEntity, "invalid", "scopes/0", "expires_at")
		c.post("/v1/keys", map[string]any{"name": "x", "role": "agent", "expires_at": "2020-01-01T00:00:00Z"}).
			problem(http.StatusUnprocessableEntity, "invalid", "expires_at")
		c.post("/v1/keys", map[string]any{"name": "x", "role": "agent", "member_id": h.operator.MemberID}).
			problem(http.StatusUnprocessableEntity, "invalid", "member_id")

		narrow := h.other
		narrow.Scopes = []string{access.KeysWrite}
		h.as(narrow).post("/v1/keys", map[string]any{"name": "x", "role": "owner"}).problem(http.StatusForbidden, "missing_scope")
		h.as(narrow).post("/v1/keys", map[string]any{"name": "x", "role": "owner", "scopes": []string{access.KeysWrite}}).is(http.StatusCreated)
		h.as(h.other).post("/v1/keys", map[string]any{"name": "x", "role": "owner", "scopes": []string{access.WorkspacesWrite}}).is(http.StatusCreated)

		h.as(h.operator).delete("/v1/keys/"+id).problem(http.StatusNotFound, "not_found")
		c.delete("/v1/keys/" + id).is(http.StatusNoContent)
		c.delete("/v1/keys/" + id).is(http.StatusNoContent)
		require.True(h, h.accessKey(id).GetRevoked(), "published when it was answered")

		c.delete("/v1/keys/"+h.other.KeyID).problem(http.StatusConflict, "conflict")
		c.post("/v1/keys", map[string]any{"name": "second", "role": "owner"}).is(http.StatusCreated)
		c.delete("/v1/keys/" + h.other.KeyID).is(http.StatusNoContent)
	})
}

func TestApps(t *testing.T) {
	each(t, func(h *house) {
		c := h.as(h.other)
		c.post("/v1/apps", map[string]any{"channel": "fax", "name": "Bad Name", "secrets": map[string]any{}}).
			problem(http.StatusUnprocessableEntity, "invalid", "channel", "name")
		c.post("/v1/apps", map[string]any{"channel": "slack", "name": "main", "secrets": map[string]any{}}).
			problem(http.StatusUnprocessableEntity, "invalid", "secrets/signing_secret")
		c.post("/v1/apps", map[string]any{"channel": "sms", "name": "main", "secrets": map[string]any{}}).
			problem(http.StatusUnprocessableEntity, "invalid", "channel")

		made := c.post("/v1/apps", slackApp("main")).is(http.StatusCreated)
		require.NotContains(h, made.Body.String(), "canary")
		id := made.id()
		require.Equal(h, "/webhooks/slack/main", made.object()["webhook_url"])
		a := h.openedApp("main")
		require.Equal(h, channel.Secrets{"canary-signing"}, a.SigningSecrets)
		require.Equal(h, h.other.WorkspaceID, a.GetWorkspaceId())
		h.as(h.operator).post("/v1/apps", slackApp("main")).problem(http.StatusConflict, "conflict")

		c.patch("/v1/apps/"+id, map[string]any{"secrets": map[string]any{"client_secret": "x"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "secrets/signing_secret")
		c.patch("/v1/apps/"+id, map[string]any{"external_id": "A2", "secrets": map[string]any{"signing_secret": "new", "previous_signing_secret": "canary-signing"}}).is(http.StatusOK)
		a = h.openedApp("main")
		require.Equal(h, channel.Secrets{"new", "canary-signing"}, a.SigningSecrets)
		require.Equal(h, "A2", a.GetExternalId())

		h.as(h.operator).patch("/v1/apps/"+id, map[string]any{"external_id": "A3"}).problem(http.StatusNotFound, "not_found")
		h.as(h.operator).delete("/v1/apps/"+id).problem(http.StatusNotFound, "not_found")

		shared := slackApp("shared")
		shared["operator"] = true
		c.post("/v1/apps", shared).problem(http.StatusUnprocessableEntity, "invalid", "operator")
		sharedID := h.as(h.operator).post("/v1/apps", shared).is(http.StatusCreated).id()
		require.ElementsMatch(h, []string{id, sharedID}, c.ids("/v1/apps", nil))
		require.Equal(h, []string{sharedID}, h.as(h.operator).ids("/v1/apps", nil))
		c.delete("/v1/apps/"+sharedID).problem(http.StatusNotFound, "not_found")

		account := map[string]any{"channel": "slack", "external_id": "T0MAIN", "app_id": id, "credentials": map[string]any{"bot_token": "canary-bot"}}
		connectionID := c.post("/v1/connections", account).is(http.StatusCreated).id()
		c.delete("/v1/apps/"+id).problem(http.StatusConflict, "conflict")
		c.delete("/v1/connections/" + connectionID).is(http.StatusNoContent)
		c.delete("/v1/apps/" + id).is(http.StatusNoContent)
		require.False(h, h.published(accounts.AppsTopic, "slack/main"), "taken off the topic")
		c.post("/v1/apps", slackApp("main")).is(http.StatusCreated)
	})
}

func TestConnections(t *testing.T) {
	each(t, func(h *house) {
		c := h.as(h.other)
		t := h
		for name, test := range map[string]struct {
			body   map[string]any
			fields []string
		}{
			"an unknown channel":          {map[string]any{"channel": "fax", "external_id": "1", "credentials": map[string]any{}}, []string{"channel"}},
			"no account":                  {map[string]any{"channel": "sms", "external_id": " ", "credentials": map[string]any{"account_sid": "a", "auth_token": "b"}}, []string{"external_id"}},
			"missing credentials":         {map[string]any{"channel": "sms", "external_id": "+41445550100", "credentials": map[string]any{"account_sid": "a"}}, []string{"credentials/auth_token"}},
			"credentials of another kind": {map[string]any{"channel": "sms", "external_id": "+41445550100", "credentials": map[string]any{"account_sid": "a", "auth_token": "b", "bot_token": "c"}}, []string{"credentials/bot_token"}},
			"no app":                      {map[string]any{"channel": "slack", "external_id": "T0MAIN", "credentials": map[string]any{"bot_token": "b"}}, []string{"app_id"}},
			"an app where there is none":  {map[string]any{"channel": "sms", "external_id": "+41445550100", "app_id": "x", "credentials": map[string]any{"account_sid": "a", "auth_token": "b"}}, []string{"app_id"}},
			"a number of no country":      {map[string]any{"channel": "sms", "external_id": "044 555 01 00", "credentials": map[string]any{"account_sid": "a", "auth_token": "b"}}, []string{"external_id"}},
			"no team of Slack":            {map[string]any{"channel": "slack", "external_id": "+41445550100", "app_id": "x", "credentials": map[string]any{"bot_token": "b"}}, []string{"external_id"}},
			"settings that are not known": {map[string]any{"channel": "sms", "external_id": "+41445550100", "settings": map[string]any{"region": "CH", "messages_per_second": "fast"}, "credentials": map[string]any{"account_sid": "a", "auth_token": "b"}}, []string{"settings/region", "settings/messages_per_second"}},
			"another provider's":          {map[string]any{"channel": "sms", "external_id": "+41445550100", "settings": map[string]any{"provider": "vonage", "help_reply": "x"}, "credentials": map[string]any{"account_sid": "a", "auth_token": "b"}}, []string{"credentials/account_sid", "credentials/auth_token", "credentials/application_id", "credentials/private_key", "credentials/signature_secret", "settings/help_reply"}},
			"a credential of odd signs":   {map[string]any{"channel": "sms", "external_id": "+41445550100", "credentials": map[string]any{"account_sid": "a", "auth_token": "b\x00"}}, []string{"credentials/auth_token"}},
			"an app of nobody":            {map[string]any{"channel": "slack", "external_id": "T0MAIN", "app_id": "x", "credentials": map[string]any{"bot_token": "b"}}, []string{"app_id"}},
		} {
			t.Log(name)
			c.post("/v1/connections", test.body).problem(http.StatusUnprocessableEntity, "invalid", test.fields...)
		}
		stranger := h.as(h.operator).post("/v1/apps", slackApp("private")).is(http.StatusCreated).id()
		c.post("/v1/connections", map[string]any{"channel": "slack", "external_id": "T0MAIN", "app_id": stranger, "credentials": map[string]any{"bot_token": "b"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "app_id")

		made := c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated)
		require.NotContains(h, made.Body.String(), "canary")
		id := made.id()
		require.Equal(h, "/webhooks/sms/"+id, made.object()["webhook_url"])
		require.Equal(h, "canary-token", h.opened(id).Credentials["auth_token"], "the adapter can open them")
		h.requireNoSecrets("canary-token")

		h.as(h.operator).post("/v1/connections", smsAccount("+41791234567")).problem(http.StatusConflict, "conflict")
		for _, call := range []answer{
			h.as(h.operator).get("/v1/connections/" + id), h.as(h.operator).delete("/v1/connections/" + id),
			h.as(h.operator).patch("/v1/connections/"+id, map[string]any{"name": "x"}),
		} {
			call.problem(http.StatusNotFound, "not_found")
		}
		require.Empty(h, h.as(h.operator).ids("/v1/connections", nil))

		c.patch("/v1/connections/"+id, map[string]any{"credentials": map[string]any{"account_sid": "AC1"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "credentials/auth_token")
		c.patch("/v1/connections/"+id, map[string]any{"settings": map[string]any{"messages_per_second": "-1", "help": "x"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "settings/messages_per_second", "settings/help")
		changed := c.patch("/v1/connections/"+id, map[string]any{"name": "Front desk", "settings": map[string]any{"messages_per_second": "0.5"}}).is(http.StatusOK).object()
		require.Equal(h, "Front desk", changed["name"])
		require.Equal(h, map[string]string{"messages_per_second": "0.5"}, h.opened(id).Settings)
		c.patch("/v1/connections/"+id, map[string]any{"credentials": map[string]any{"account_sid": "AC1", "auth_token": "canary-2", "previous_auth_token": "canary-token"}}).is(http.StatusOK)
		require.Equal(h, "canary-2", h.opened(id).Credentials["auth_token"])

		byVonage := map[string]any{"application_id": "a1", "private_key": "-----BEGIN PRIVATE KEY-----\ncanary-3\r\n-----END PRIVATE KEY-----\n", "signature_secret": "canary-4"}
		c.patch("/v1/connections/"+id, map[string]any{"settings": map[string]any{"provider": "vonage"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "credentials")
		c.patch("/v1/connections/"+id, map[string]any{"settings": map[string]any{"provider": "twilio", "messages_per_second": "0.5"}}).is(http.StatusOK)
		c.patch("/v1/connections/"+id, map[string]any{"settings": map[string]any{"provider": "vonage"}, "credentials": byVonage, "check": false}).is(http.StatusOK)
		require.Equal(h, byVonage["private_key"], h.opened(id).Credentials["private_key"], "with its lines")
		unsaid := smsAccount("+41791234567")
		delete(unsaid, "settings")
		require.Equal(h, id, c.post("/v1/connections", unsaid).is(http.StatusOK).id())
		require.Empty(h, h.opened(id).Settings, "they were another provider's")

		c.delete("/v1/connections/" + id).is(http.StatusNoContent)
		c.delete("/v1/connections/" + id).is(http.StatusNoContent)
		gone := h.record(id)
		require.Equal(h, pb.ConnectionStatus_CONNECTION_STATUS_DISABLED, gone.GetStatus())
		require.Empty(h, gone.GetSealedCredentials())
		c.patch("/v1/connections/"+id, map[string]any{"credentials": map[string]any{"account_sid": "AC1", "auth_token": "x"}}).problem(http.StatusConflict, "conflict")

		back := c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusOK)
		require.Equal(h, id, back.id(), "connecting again keeps the id, and so the conversations")
		require.Equal(h, "canary-token", h.opened(id).Credentials["auth_token"])

		c.delete("/v1/connections/" + id).is(http.StatusNoContent)
		h.as(h.operator).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated)
		c.post("/v1/connections", smsAccount("+41791234567")).problem(http.StatusConflict, "conflict")

		second := c.post("/v1/connections", smsAccount("+41790000000")).is(http.StatusCreated).id()
		require.Equal(h, []string{id, second}, c.ids("/v1/connections", nil))
		require.Equal(h, []string{second}, c.ids("/v1/connections", url.Values{"status": {"active"}, "channel": {"sms"}}))
		require.Empty(h, c.ids("/v1/connections", url.Values{"channel": {"slack"}}))

		first := c.with("k").post("/v1/connections", smsAccount("+41791111111")).is(http.StatusCreated)
		again := c.with("k").post("/v1/connections", smsAccount("+41791111111")).is(http.StatusOK)
		require.Equal(h, first.id(), again.id())
		c.with("k").post("/v1/connections", smsAccount("+41792222222")).problem(http.StatusConflict, "conflict")
	})
}
