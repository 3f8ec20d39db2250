package connect

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
)

// of gives an app of a channel to the other workspace, with every provider at a mux.
func (h *installing) of(channelName string, mux *http.ServeMux) {
	h.Helper()
	if _, ok := channel.Lookup(channelName); !ok {
		h.Skipf("NOT RUN: there is no channel %s here", channelName)
	}
	server := httptest.NewServer(mux)
	h.Cleanup(server.Close)
	p := &h.cfg.Providers
	p.GraphURL, p.FacebookURL, p.ShopURL = server.URL, server.URL, server.URL
	h.rebuild(h.s.db, h.s.keepers)
	h.app = h.as(h.other).post("/v1/apps", map[string]any{
		"channel": channelName, "name": "main", "client_id": "42", "external_id": "42",
		"secrets": map[string]any{"signing_secret": "canary-secret", "client_secret": "canary-secret", "verify_token": "v"},
	}).is(http.StatusCreated).id()
}

func TestAFacebookPageIsChosen(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		h := newInstalling(t, db)
		mux := http.NewServeMux()
		graph := standin.NewGraphOAuth(mux, standin.GraphOAuthConfig{
			AppID: "42", AppSecret: "canary-secret", Pages: []standin.GraphPage{{ID: "101", Name: `<b>"Shop"</b>`}, {ID: "102", Name: "Café"}},
		})
		h.of("messenger", mux)
		id, link := h.link("channel", "messenger")
		o := h.browser()
		o.open(h.answer(o.leave(link), "allow")).shows(http.StatusOK, "Which account shall be connected to “Other”?")
		require.NotContains(t, o.Body.String(), "<b>", "a Page's name is text")
		require.Equal(t, "choosing", h.authorisation(id)["status"])
		require.Empty(t, h.connections())
		h.requireNoSecrets("canary")

		// Nobody else sees the Pages, or chooses.
		form := url.Values{"form": {o.find(`name="form" value="([^"]*)"`)}, "account": {"102"}}
		h.browser().open(link).shows(http.StatusForbidden, "another browser")
		h.browser().post(link, form).shows(http.StatusForbidden, "another browser")
		o.post(link, url.Values{"form": {"forged"}, "account": {"102"}}).shows(http.StatusForbidden, "not the one")
		o.post(link, url.Values{"form": form["form"], "account": {"103"}}).shows(http.StatusBadRequest, "Choose one")
		require.Empty(t, h.connections())

		o.post(link, form).shows(http.StatusOK, "Messenger is connected to “Other”")
		o.post(link, form).shows(http.StatusOK, "Messenger is connected to “Other”")
		require.Len(t, h.connections(), 1)
		c := h.connection(h.authorisation(id)["connection_id"].(string))
		require.Equal(t, [2]any{"102", "Café"}, [2]any{c["external_id"], c["name"]})
		require.NotEmpty(t, graph.Subscribed("102"))
		require.Empty(t, graph.Subscribed("101"))
		require.NoError(t, h.s.db.View(t.Context(), func(tx *sqldb.Tx) error {
			var kept int
			err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM authorisations WHERE sealed_accounts IS NOT NULL`).Scan(&kept)
			require.Zero(t, kept, "of the other Pages nothing is kept")
			return err
		}))

		h.as(h.other).delete("/v1/connections/" + c["id"].(string)).is(http.StatusNoContent)
		require.Empty(t, graph.Subscribed("102"))
	})
}

// Who connected Pages takes the app off their account at Facebook: the messenger service says so of each connection that
// they granted, by what is published of who that is.
func TestWhoConnectedPagesTakesTheAppAway(t *testing.T) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) {
		h := newInstalling(t, db)
		mux := http.NewServeMux()
		standin.NewGraphOAuth(mux, standin.GraphOAuthConfig{
			AppID: "42", AppSecret: "canary-secret", Pages: []standin.GraphPage{{ID: "101", Name: "Shop"}, {ID: "102", Name: "Café"}},
		})
		h.of("messenger", mux)
		granted := func(page string) string {
			t.Helper()
			id, link := h.link("channel", "messenger")
			o := h.browser()
			o.open(h.answer(o.leave(link), "allow"))
			o.post(link, url.Values{"form": {o.find(`name="form" value="([^"]*)"`)}, "account": {page}}).shows(http.StatusOK, "connected")
			return h.authorisation(id)["connection_id"].(string)
		}
		shop, cafe := granted("101"), granted("102")
		pasted := h.as(h.other).post("/v1/connections", map[string]any{
			"channel": "messenger", "external_id": "103", "app_id": h.app, "credentials": map[string]any{"page_token": "EAA-canary"}, "check": false,
		}).is(http.StatusCreated).id()
		who := channel.Grantor("v", standin.GraphUser)
		for id, grantor := range map[string]string{shop: who, cafe: who, pasted: ""} {
			require.Equal(t, grantor, h.record(id).GetGrantor())
		}
		raw, err := proto.Marshal(h.record(shop))
		require.NoError(t, err)
		require.NotContains(t, string(raw), standin.GraphUser, "the person's id is on no topic")
		require.NotContains(t, h.as(h.other).get("/v1/connections/"+shop).Body.String(), who)

		takenAway := func(at time.Time, ids ...string) {
			t.Helper()
			for _, id := range ids {
				require.NoError(t, h.hear(t, said(t, id, "deauthorised", at.Truncate(time.Second), false)))
			}
		}
		takenAway(h.s.now().Add(-time.Minute), shop)
		require.Equal(t, active, h.connection(shop)["status"], "what was done before the tokens were given is about others")

		at := h.s.now().Add(time.Second)
		takenAway(at, shop, cafe)
		for _, id := range []string{shop, cafe} {
			c := h.connection(id)
			require.Equal(t, revoked, c["status"])
			require.Equal(t, "deauthorised", c["status_reason"].(map[string]any)["code"])
			require.Empty(t, h.record(id).GetSealedCredentials())
			require.Equal(t, who, h.record(id).GetGrantor(), "they may ask for the deletion of their data yet")
		}
		require.Equal(t, active, h.connection(pasted)["status"])

		// Connected again, an old word of Meta's does no harm. By a token that was pasted nobody granted it.
		h.pass(time.Minute)
		require.Equal(t, shop, granted("101"))
		takenAway(at, shop)
		require.Equal(t, active, h.connection(shop)["status"])
		h.as(h.other).patch("/v1/connections/"+shop, map[string]any{"credentials": map[string]any{"page_token": "EAA-canary"}, "check": false}).is(http.StatusOK)
		require.Empty(t, h.record(shop).GetGrantor())

		h.as(h.other).delete("/v1/connections/" + cafe).is(http.StatusNoContent)
		require.Empty(t, h.record(cafe).GetGrantor(), "what is disconnected keeps nothing of who connected it")
	})
}

func TestAShopInstallsAnApp(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	mux := http.NewServeMux()
	shop := standin.NewShopifyOAuth(mux, standin.ShopifyOAuthConfig{ClientID: "42", ClientSecret: "canary-secret", Shop: "acme.myshopify.com"})
	h.of("shopify", mux)
	for _, none := range []string{"", "acme", "evil.example", "acme.myshopify.com.evil.example", "https://acme.myshopify.com"} {
		h.as(h.other).post("/v1/connections/authorisations", map[string]any{"channel": "shopify", "app_id": h.app, "shop": none}).
			problem(http.StatusUnprocessableEntity, "invalid", "shop")
	}
	id, link := h.link("channel", "shopify", "shop", "acme.myshopify.com")
	o := h.browser()
	back := h.answer(o.leave(link), "allow")
	o.open(strings.Replace(back, "code=", "code=stolen", 1)).shows(http.StatusOK, "not signed by the provider")
	require.Equal(t, "bad_hmac", h.authorisation(id)["reason"].(map[string]any)["code"])
	require.Empty(t, h.connections())

	o.open(h.answer(o.leave(link), "allow")).shows(http.StatusOK, "Shopify is connected")
	connection := h.authorisation(id)["connection_id"].(string)
	require.NotEmpty(t, shop.Webhooks())
	require.Equal(t, publicURL+"/webhooks/shopify/main", shop.Webhooks()[0].Address)

	h.pass(31 * time.Minute)
	require.Equal(t, 1, h.refreshDue())
	require.Equal(t, active, h.connection(connection)["status"])
	h.as(h.other).delete("/v1/connections/" + connection).is(http.StatusNoContent)
	require.True(t, shop.Uninstalled())
}
