package connect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	orderID, customerID = "9223372036854775807", "820982911946154509"
	shopDomain          = "acme.myshopify.com"
)

// selling is a house with a connected shop, that has one order of one customer.
type selling struct {
	*house
	shop *standin.Shopify
	id   string
	told chan string
}

func newSelling(h *house) *selling {
	h.Helper()
	shop, err := standin.NewShopify("127.0.0.1:0", shopDomain, "shpat_canary")
	require.NoError(h, err)
	s := &selling{house: h, shop: shop, told: make(chan string, 100)}
	h.Cleanup(func() { require.NoError(h, shop.Close()) })
	shop.Install("key", "canary-client")
	shop.Changed = func(topic string, body []byte, _ time.Time) { s.told <- topic + " " + string(body) }
	shop.PutOrder(s.object(`{"id":` + orderID + `,"note":"canary: as it was","total_price":"0.10","tags":"one"}`))
	shop.PutCustomer(s.object(`{"id":` + customerID + `,"tags":"old","total_spent":"12345678901234567890.10"}`))
	h.cfg.Providers.ShopURL = shop.URL
	h.rebuild(h.s.db, h.s.keepers)
	s.id = s.connect()
	return s
}

func (s *selling) object(text string) standin.ShopifyObject {
	s.Helper()
	o, err := standin.ReadShopifyObject([]byte(text))
	require.NoError(s, err)
	return o
}

func (s *selling) connect() string {
	s.Helper()
	app := s.as(s.other).post("/v1/apps", map[string]any{"channel": "shopify", "name": "shop", "client_id": "key", "external_id": "42",
		"secrets": map[string]any{"signing_secret": "canary-client", "client_secret": "canary-client"}}).is(http.StatusCreated).id()
	return s.as(s.other).post("/v1/connections", map[string]any{"channel": "shopify", "external_id": shopDomain, "app_id": app,
		"credentials": map[string]any{"access_token": "shpat_canary"}}).is(http.StatusCreated).id()
}

func (s *selling) note(order, text string) answer {
	s.Helper()
	return s.as(s.other).do(http.MethodPut, "/v1/connections/"+s.id+"/orders/"+order+"/note", map[string]any{"text": text})
}

func (s *selling) tags(customer string, tags ...string) answer {
	s.Helper()
	return s.as(s.other).do(http.MethodPut, "/v1/connections/"+s.id+"/customers/"+customer+"/tags", map[string]any{"tags": append([]string{}, tags...)})
}

func TestNotesAndTagsAreSetAtTheShop(t *testing.T) {
	each(t, func(h *house) {
		s := newSelling(h)
		const note = "Ring twice.\r\n\tÜber <dem> Tor & 🎁"
		require.Equal(h, map[string]any{"text": note}, s.note(orderID, note).is(http.StatusOK).object())
		s.note(orderID, note).is(http.StatusOK) // repeated
		require.Equal(h, note, s.shop.Order(orderID)["note"])
		for range 2 {
			topic, body, _ := strings.Cut(<-s.told, " ")
			require.Equal(h, "orders/updated", topic)
			require.Contains(h, body, `"id":`+orderID)
		}
		require.Equal(h, map[string]any{"text": ""}, s.note(orderID, "").is(http.StatusOK).object())
		require.Empty(h, s.shop.Order(orderID)["note"])
		<-s.told
		require.Equal(h, "one", s.shop.Order(orderID)["tags"])
		require.Equal(h, json.Number("0.10"), asNumber(s.shop.Order(orderID)["total_price"]))

		got := s.tags(customerID, "b", " A ", "b", strings.Repeat("ö", 255)).is(http.StatusOK).object()
		require.Equal(h, []any{"A", "b", strings.Repeat("ö", 255)}, got["tags"], "as the shop has them")
		topic, body, _ := strings.Cut(<-s.told, " ")
		require.Equal(h, "customers/update", topic)
		require.Contains(h, body, `"total_spent":"12345678901234567890.10"`)
		require.Equal(h, []any{}, s.tags(customerID).is(http.StatusOK).object()["tags"])
		require.Empty(h, s.shop.Customer(customerID)["tags"])
		require.Equal(h, active, s.as(s.other).get("/v1/connections/" + s.id).object()["status"])
	})
}

func asNumber(v any) json.Number { return json.Number(fmt.Sprint(v)) }

func TestWhatNotesAndTagsMayBe(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	c := s.as(s.other)
	for _, id := range []string{"0", "01", "+1", "-1", "1.0", "gid:1", "18446744073709551616", "1%2F2"} {
		s.note(id, "x").problem(http.StatusUnprocessableEntity, "invalid", "order_id")
		s.tags(id, "x").problem(http.StatusUnprocessableEntity, "invalid", "customer_id")
	}
	s.note(orderID, strings.Repeat("ö", 5001)).problem(http.StatusUnprocessableEntity, "invalid", "text")
	s.note(orderID, "a\x00b").problem(http.StatusUnprocessableEntity, "invalid", "text")
	s.tags(customerID, "a,b", "", " ", strings.Repeat("x", 256), "fine", "a\nb").
		problem(http.StatusUnprocessableEntity, "invalid", "tags/0", "tags/1", "tags/2", "tags/3", "tags/5")
	many := make([]string, 251)
	for i := range many {
		many[i] = fmt.Sprint("tag", i)
	}
	s.tags(customerID, many...).problem(http.StatusUnprocessableEntity, "invalid", "tags")
	at := "/v1/connections/" + s.id
	for _, body := range []map[string]any{{}, {"text": nil}} {
		c.do(http.MethodPut, at+"/orders/"+orderID+"/note", body).problem(http.StatusUnprocessableEntity, "invalid", "text")
	}
	for _, body := range []map[string]any{{}, {"tags": nil}} {
		c.do(http.MethodPut, at+"/customers/"+customerID+"/tags", body).problem(http.StatusUnprocessableEntity, "invalid", "tags")
	}
	require.Equal(t, "canary: as it was", s.shop.Order(orderID)["note"], "nothing was asked of the shop")
	require.Equal(t, "old", s.shop.Customer(customerID)["tags"])

	s.note(orderID, strings.Repeat("ö", 5000)).is(http.StatusOK)
	require.Len(t, s.tags(customerID, many[:250]...).is(http.StatusOK).object()["tags"], 250)
}

func TestWhoMaySetSomethingAtAShop(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	narrow := s.other
	narrow.Scopes = []string{access.ConnectionsWrite, access.ConversationsWrite, access.ContactsRead}
	note, tags := "/v1/connections/"+s.id+"/orders/"+orderID+"/note", "/v1/connections/"+s.id+"/customers/"+customerID+"/tags"
	bodies := map[string]map[string]any{note: {"text": "x"}, tags: {"tags": []string{"x"}}}
	for path, body := range bodies {
		s.as(narrow).do(http.MethodPut, path, body).problem(http.StatusForbidden, "missing_scope")
		s.as(s.operator).do(http.MethodPut, path, body).problem(http.StatusNotFound, "not_found")
	}
	agent := s.other
	agent.Role, agent.Scopes = access.Agent, access.RoleScopes(access.Agent)
	for path, body := range bodies {
		s.as(agent).do(http.MethodPut, path, body).is(http.StatusOK)
	}

	sms := s.as(s.other).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
	s.as(s.other).do(http.MethodPut, "/v1/connections/"+sms+"/orders/1/note", bodies[note]).problem(http.StatusUnprocessableEntity, "invalid", "id")

	s.as(s.other).delete("/v1/connections/" + s.id).is(http.StatusNoContent)
	for path, body := range bodies {
		s.as(s.other).do(http.MethodPut, path, body).problem(http.StatusConflict, "disconnected")
	}
}

func TestWhatAShopRefusesIsToldInOurWords(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	s.note("1", "canary").problem(http.StatusNotFound, "unknown_order")
	s.tags("1", "canary").problem(http.StatusNotFound, "unknown_customer")

	for _, test := range []struct {
		fault      standin.Failure
		status     int
		code       string
		retryAfter string
	}{
		{standin.Failure{Refuse: http.StatusUnprocessableEntity}, http.StatusUnprocessableEntity, "refused", ""},
		{standin.Failure{Refuse: http.StatusForbidden}, http.StatusConflict, "not_allowed", ""},
		{standin.Failure{Refuse: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7.0"}}}, http.StatusTooManyRequests, "too_many_requests", "7"},
		{standin.Failure{Refuse: http.StatusTooManyRequests}, http.StatusTooManyRequests, "too_many_requests", "1"},
		{standin.Failure{Refuse: http.StatusBadGateway}, http.StatusServiceUnavailable, "unavailable", "1"},
		{standin.Failure{HangUp: true}, http.StatusServiceUnavailable, "unavailable", "1"},
	} {
		s.shop.Fail(func(int, string) standin.Failure { return test.fault })
		for _, a := range []answer{s.note(orderID, "canary"), s.tags(customerID, "canary")} {
			a.problem(test.status, test.code)
			require.Equal(t, test.retryAfter, a.Header().Get("Retry-After"))
			require.NotContains(t, a.Body.String(), "canary")
		}
	}
	s.shop.Fail(nil)
	got := s.as(s.other).get("/v1/connections/" + s.id).object()
	require.Equal(t, active, got["status"], "none of that speaks against the credentials")

	// A shop that was connected before notes were asked for.
	s.shop.Grant("read_orders", "read_customers")
	s.note(orderID, "x").problem(http.StatusConflict, "scope_missing")
	s.tags(customerID, "x").problem(http.StatusConflict, "scope_missing")
	s.shop.Grant("read_orders", "read_customers", "write_customers")
	s.note(orderID, "x").problem(http.StatusConflict, "scope_missing")
	s.tags(customerID, "x").is(http.StatusOK)
}

func TestAShopsBucketIsHeeded(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	s.shop.Now = func() time.Time { return noon }
	for range standin.ShopifyBucket {
		s.note(orderID, "x").is(http.StatusOK)
	}
	full := s.note(orderID, "x")
	full.problem(http.StatusTooManyRequests, "too_many_requests")
	require.Equal(t, "2", full.Header().Get("Retry-After"))
}

func TestAShopThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	s.shop.Fail(func(int, string) standin.Failure { return standin.Failure{Before: time.Minute} })
	began := time.Now()
	s.note(orderID, "x").problem(http.StatusGatewayTimeout, "timeout")
	require.Less(t, time.Since(began), 2*setWithin)
	require.Equal(t, "canary: as it was", s.shop.Order(orderID)["note"])
}

func TestAShopThatTakesTheCredentialsNoMoreIsToBeReauthorised(t *testing.T) {
	each(t, func(h *house) {
		s := newSelling(h)
		s.shop.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: http.StatusUnauthorized} })
		s.note(orderID, "x").problem(http.StatusConflict, "reauthorise")
		got := s.as(s.other).get("/v1/connections/" + s.id).object()
		_, why := healthOf(got)
		require.Equal(h, [2]any{reauthorise, "http_401"}, [2]any{got["status"], why})
		require.Equal(h, "http_401", got["status_reason"].(map[string]any)["code"])
		require.Equal(h, pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE, s.record(s.id).GetStatus(), "and the adapter hears it")

		asked := 0
		s.shop.Fail(func(int, string) standin.Failure { asked++; return standin.Failure{} })
		s.tags(customerID, "x").problem(http.StatusConflict, "reauthorise")
		require.Zero(h, asked, "the shop is not asked again")
		s.as(s.other).patch("/v1/connections/"+s.id, map[string]any{"credentials": map[string]any{"access_token": "shpat_canary"}}).is(http.StatusOK)
		s.tags(customerID, "x").is(http.StatusOK)
	})
}

// Who asked with credentials that were renewed meanwhile asks again; the new ones are as good as they were.
func TestARefusalOfOldCredentialsSaysNothingOfNewOnes(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	s.shop.Fail(func(n int, _ string) standin.Failure {
		if n > 1 {
			return standin.Failure{}
		}
		s.pass(time.Second)
		s.as(s.other).patch("/v1/connections/"+s.id, map[string]any{"credentials": map[string]any{"access_token": "shpat_canary"}}).is(http.StatusOK)
		return standin.Failure{Refuse: http.StatusUnauthorized}
	})
	a := s.note(orderID, "x")
	a.problem(http.StatusServiceUnavailable, "unavailable")
	require.NotEmpty(t, a.Header().Get("Retry-After"))
	s.note(orderID, "x").is(http.StatusOK)
}

// Notes and tags are about people: neither logs nor spans nor figures have them, whatever came of the call.
func TestNotesAndTagsLeaveNoTrace(t *testing.T) {
	s := newSelling(newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t)))
	var log bytes.Buffer
	spans := filepath.Join(t.TempDir(), "spans")
	tel, err := telemetry.New(telemetry.Config{Service: "connect", LogLevel: "debug", LogOutput: &log, TraceFile: spans})
	require.NoError(t, err)
	s.deps.Telemetry = tel
	s.rebuild(s.s.db, s.s.keepers)
	mux := http.NewServeMux()
	for _, r := range s.s.routes() {
		mux.Handle(r.Pattern, tel.Server(r.Pattern, r.Handler))
	}
	for _, refuse := range []int{0, 422, 500, 401} {
		s.shop.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: refuse} })
		for _, path := range []string{"/orders/" + orderID + "/note", "/customers/" + customerID + "/tags"} {
			for _, body := range []string{`{"text":"canary"}`, `{"tags":["canary"]}`, `{"tags":["canary,"]}`, `{"canary":"canary"}`} {
				req := httptest.NewRequest(http.MethodPut, "/v1/connections/"+s.id+path, strings.NewReader(body))
				req.Header.Set("Content-Type", "application/json")
				mux.ServeHTTP(httptest.NewRecorder(), req.WithContext(access.With(req.Context(), s.other)))
			}
		}
	}
	require.Equal(t, reauthorise, s.as(s.other).get("/v1/connections/" + s.id).object()["status"], "the shop was asked")
	figures := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(figures, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.NoError(t, tel.Close(t.Context()))
	written, err := os.ReadFile(spans)
	require.NoError(t, err)
	for _, text := range []string{log.String(), string(written), figures.Body.String()} {
		require.NotEmpty(t, text)
		require.NotContains(t, text, "canary")
	}
}
