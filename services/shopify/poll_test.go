package shopify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

const shop = "jsmith.myshopify.com"

func shopUp(t *testing.T) (*standin.Shopify, *Adapter) {
	t.Helper()
	s, err := standin.NewShopify("127.0.0.1:0", shop, "shpat_CANARY")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	cfg := *DefaultConfig()
	cfg.URL = s.URL + "/"
	a := New(cfg, &http.Client{Timeout: 5 * time.Second})
	a.wait = func(context.Context, time.Duration) {}
	return s, a
}

func connected(token string) *channel.Connection {
	return &channel.Connection{ID: "c1", ExternalID: shop, Credentials: map[string]string{"access_token": token}}
}

// sampleBody is the body of a sample.
func sampleBody(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".http"))
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(raw), "\n\n")
	require.True(t, ok)
	return []byte(strings.TrimSpace(body))
}

// ordered is an order of the stand-in, changed at a time.
func ordered(t testing.TB, n int, at time.Time) standin.ShopifyObject {
	o, err := standin.ReadShopifyObject(sampleBody(t, "orders_create"))
	require.NoError(t, err)
	o["id"], o["updated_at"] = json.Number(fmt.Sprint(900_000_000_000_000_000+n)), at.UTC().Format(time.RFC3339)
	delete(o, "admin_graphql_api_id")
	return o
}

// all asks until there is no more, as the poll job does.
func all(t *testing.T, a *Adapter, since time.Time) (events []channel.Event, pages int) {
	t.Helper()
	for more := true; more; {
		result, next, again, err := a.Poll(t.Context(), connected("shpat_CANARY"), since)
		require.NoError(t, err)
		require.Empty(t, result.Faults)
		events, since, more = append(events, result.Events...), next, again
		pages++
		require.Less(t, pages, 100)
	}
	return events, pages
}

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// What is asked for names the same events as what webhooks told, so that each state counts once.
func TestAPollAndAWebhookNameTheSameEvents(t *testing.T) {
	for _, name := range []string{"orders_updated_refund", "orders_fulfilled", "orders_updated_email_and_phone", "orders_updated_customer_alone"} {
		t.Run(name, func(t *testing.T) {
			s, a := shopUp(t)
			o, err := standin.ReadShopifyObject(sampleBody(t, name))
			require.NoError(t, err)
			s.PutOrder(o)
			polled, _ := all(t, a, noon)
			k := kit(t)
			r := &channel.Request{Method: http.MethodPost, Header: http.Header{}, Body: sampleBody(t, name)}
			r.Header = standin.ShopifyHeader("secret", shop, "orders/paid", "1", noon.AddDate(0, 1, 0), r.Body)
			told, err := k.New().Normalise(r)
			require.NoError(t, err)
			require.NotEmpty(t, polled)
			assert.Equal(t, ids(told.Events), ids(polled))
		})
	}
}

func ids(events []channel.Event) (ids []string) {
	for _, e := range events {
		ids = append(ids, channel.EventID("c1", e.Type, e.Key, e.IDTime)+" "+fmt.Sprint(e.Order, e.Author, e.ActedAt))
	}
	return ids
}

func TestAFulfilmentsOwnWebhookNamesTheSameEventAsItsOrder(t *testing.T) {
	read := func(topic, name string) []channel.Event {
		body := sampleBody(t, name)
		result, err := kit(t).New().Normalise(&channel.Request{Header: standin.ShopifyHeader("s", shop, topic, "1", noon, body), Body: body})
		require.NoError(t, err)
		return result.Events
	}
	alone, nested := read("fulfillments/create", "fulfillments_create"), read("orders/fulfilled", "orders_fulfilled")
	require.Len(t, alone, 1)
	require.Len(t, nested, 2)
	assert.Equal(t, alone[0].Key, nested[1].Key)
	assert.Equal(t, alone[0].Author, nested[1].Author)
}

func TestEveryOrderIsAskedForOncePageByPage(t *testing.T) {
	s, a := shopUp(t)
	for i := range 257 {
		s.PutOrder(ordered(t, i, noon.Add(time.Duration(257-i)*time.Minute)))
	}
	s.PutOrder(ordered(t, 1000, noon.Add(-time.Hour))) // changed before
	events, pages := all(t, a, noon)
	seen := map[string]bool{}
	for i, e := range events {
		seen[e.Commerce.ID] = true
		require.True(t, i == 0 || e.Order >= events[i-1].Order || seen[e.Commerce.ID], "oldest change first")
	}
	assert.Len(t, seen, 257)
	assert.GreaterOrEqual(t, pages, 3)
}

// A shop's import changes hundreds of orders within one second: a time alone would never come past it.
func TestOrdersThatAllChangedInOneSecond(t *testing.T) {
	s, a := shopUp(t)
	for i := range 350 {
		s.PutOrder(ordered(t, i, noon))
	}
	s.PutOrder(ordered(t, 999, noon.Add(time.Second)))
	events, _ := all(t, a, noon)
	seen := map[string]bool{}
	for _, e := range events {
		seen[e.Commerce.ID] = true
	}
	assert.Len(t, seen, 351)
}

func TestNothingNewAsksOn(t *testing.T) {
	_, a := shopUp(t)
	result, next, more, err := a.Poll(t.Context(), connected("shpat_CANARY"), noon)
	require.NoError(t, err)
	assert.Empty(t, result.Events)
	assert.Equal(t, noon, next)
	assert.False(t, more)
}

func TestTheShopsLimitIsKept(t *testing.T) {
	s, a := shopUp(t)
	now := time.Now()
	s.Now = func() time.Time { return now } // nothing leaks
	var waits atomic.Int32
	a.wait = func(context.Context, time.Duration) { waits.Add(1) }
	for range standin.ShopifyBucket {
		_, _, _, err := a.Poll(t.Context(), connected("shpat_CANARY"), noon)
		require.NoError(t, err)
	}
	assert.Greater(t, waits.Load(), int32(5), "waits before it is refused")
	_, next, _, err := a.Poll(t.Context(), connected("shpat_CANARY"), noon)
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.ClassRetry, e.Class)
	assert.Equal(t, 2*time.Second, e.RetryAfter)
	assert.Equal(t, noon, next)
}

func TestWhatCameOfACall(t *testing.T) {
	for what, test := range map[string]struct {
		failure standin.Failure
		token   string
		class   channel.Class
		code    string
	}{
		"a token that is void":      {token: "other", class: channel.ClassReauthorise, code: "invalid_auth"},
		"no token":                  {token: "-", class: channel.ClassReauthorise, code: "no_credentials"},
		"no permission":             {failure: standin.Failure{Refuse: 403}, class: channel.ClassReject, code: "http_403"},
		"a shop that is frozen":     {failure: standin.Failure{Refuse: 402}, class: channel.ClassReject, code: "http_402"},
		"an outage":                 {failure: standin.Failure{Refuse: 503}, class: channel.ClassRetry, code: "http_503"},
		"somewhere else":            {failure: standin.Failure{Refuse: 301, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}, class: channel.ClassRetry, code: "http_301"},
		"an answer that breaks off": {failure: standin.Failure{HangUp: true}, class: channel.ClassRetry, code: "no_answer"},
	} {
		t.Run(what, func(t *testing.T) {
			s, a := shopUp(t)
			s.Fail(func(int, string) standin.Failure { return test.failure })
			token := "shpat_CANARY"
			if test.token != "" {
				token = strings.TrimPrefix(test.token, "-")
			}
			_, _, _, err := a.Poll(t.Context(), connected(token), noon)
			var e *channel.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, test.class, e.Class)
			assert.Equal(t, test.code, e.Code)
			assert.NotContains(t, fmt.Sprint(err), "CANARY")
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		a := New(Config{URL: "http://127.0.0.1:1", APIVersion: "2026-10"}, http.DefaultClient)
		_, _, _, err := a.Poll(t.Context(), connected("t"), noon)
		var e *channel.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "unreachable", e.Code)
	})
}

// The token goes to the shop alone: a redirect is not followed, and neither is the address of the next page.
func TestTheTokenGoesToTheShopAlone(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody else was asked") }))
	defer stranger.Close()
	for what, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, stranger.URL+"/admin", http.StatusTemporaryRedirect)
		},
		"a next page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `<`+stranger.URL+`/admin/api/2026-10/orders.json?limit=100&page_info=abc>; rel="next"`)
			_, _ = w.Write([]byte(`{"orders":[]}`))
		},
	} {
		t.Run(what, func(t *testing.T) {
			server := httptest.NewServer(answer)
			defer server.Close()
			a := New(Config{URL: server.URL, APIVersion: "2026-10"}, http.DefaultClient)
			_, _, _, err := a.Poll(t.Context(), connected("t"), noon)
			require.Error(t, err)
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for what, body := range map[string]string{
		"no JSON": "<html>", "half of it": `{"orders":[{"id":1`,
		"out of order": `{"orders":[{"id":1,"email":"a@b.ch","updated_at":"2026-03-14T13:00:00Z"},{"id":2,"email":"a@b.ch","updated_at":"2026-03-14T12:30:00Z"}]}`,
	} {
		t.Run(what, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
			defer server.Close()
			a := New(Config{URL: server.URL, APIVersion: "2026-10"}, http.DefaultClient)
			result, next, _, err := a.Poll(t.Context(), connected("t"), noon)
			require.Error(t, err)
			assert.Empty(t, result.Events, "nothing is taken of it")
			assert.Equal(t, noon, next)
			assert.True(t, errors.As(err, new(*channel.Error)))
		})
	}
}

func TestNextPage(t *testing.T) {
	for header, want := range map[string]string{
		``: "",
		`<https://x.myshopify.com/admin/api/2026-10/orders.json?page_info=a1&limit=3>; rel="next"`:                                    "a1",
		`<https://x/orders.json?page_info=a0>; rel="previous", <https://x/orders.json?limit=3&page_info=eyJsYXN0X2lkIjo>; rel="next"`: "eyJsYXN0X2lkIjo",
		`<https://x/orders.json?page_info=a0>; rel="previous"`:                                                                        "",
		`<:>; rel="next"`: "",
	} {
		assert.Equal(t, want, nextPage([]string{header}), header)
	}
}
