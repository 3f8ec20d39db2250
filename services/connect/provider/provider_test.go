package provider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// made are the providers of a config, whose addresses all lead to a mux.
func made(t *testing.T, mux http.Handler, change ...func(*Config)) *Providers {
	t.Helper()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	cfg := Defaults()
	for _, address := range []*string{
		&cfg.SlackURL, &cfg.SlackAuthoriseURL, &cfg.GraphURL, &cfg.FacebookURL, &cfg.ShopURL, &cfg.TwilioURL, &cfg.VonageURL, &cfg.PostmarkURL,
	} {
		*address = server.URL
	}
	for _, c := range change {
		c(&cfg)
	}
	require.NoError(t, cfg.Validate())
	client := &http.Client{Timeout: 5 * time.Second, Transport: server.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	p, err := New(cfg, client, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	require.NoError(t, err)
	return p
}

// asked goes to a provider's page, and gives what its link of this id sends back.
func asked(t *testing.T, address, id string) url.Values {
	t.Helper()
	resp, err := http.Get(address) //nolint:gosec // a stand-in
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	link := regexp.MustCompile(`id="` + id + `" href="([^"]*)"`).FindStringSubmatch(string(page))
	require.NotNil(t, link, string(page))
	back, err := url.Parse(strings.ReplaceAll(link[1], "&amp;", "&"))
	require.NoError(t, err)
	return back.Query()
}

// unanswered holds a call until its caller leaves, which shows once its body was read.
func unanswered(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// fault holds an error against what it must say, and that it says no more.
func fault(t *testing.T, err error, code, field string, void bool) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, Reason(err))
	require.Equal(t, field, Wrong(err))
	require.Equal(t, void, Void(err))
	require.NotContains(t, err.Error(), "canary")
}

// A provider that is away, slow or overloaded says nothing of credentials.
func TestAnOutageIsNeverTakenForARefusal(t *testing.T) {
	_, privateKey := newKey(t)
	for name, handler := range map[string]http.HandlerFunc{
		"http_500":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"http_429":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"http_404":          http.NotFound,
		"http_302":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"unreadable_answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>canary</html>")) },
		"timeout":           unanswered,
		"unreachable":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			p := made(t, handler)
			for _, channel := range []string{"slack", "messenger", "shopify", "sms", "sms/vonage", "email/postmark"} {
				if name == "unreadable_answer" && (channel == "sms/vonage" || channel == "email/postmark") {
					continue // a 2xx is all that is asked for
				}
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				kind, chosen, _ := strings.Cut(channel, "/")
				err := p.Of(kind, map[string]string{"provider": chosen}).(Checker).Check(ctx, App{}, Account{
					ExternalID: "x", Credentials: map[string]string{"private_key": privateKey},
				})
				cancel()
				require.Error(t, err, channel)
				require.False(t, Void(err), channel)
				require.Empty(t, Wrong(err), channel)
				if name == "timeout" || name == "unreachable" {
					require.Equal(t, name, Reason(err), channel)
				}
				require.NotContains(t, Reason(err), "canary")
			}
		})
	}
}

func TestTheScopesAreThoseOfSlacksManifest(t *testing.T) {
	text, err := os.ReadFile("../../slack/manifest.yaml")
	require.NoError(t, err)
	var manifest struct {
		OAuth struct {
			Scopes struct{ Bot []string }
		} `yaml:"oauth_config"`
	}
	require.NoError(t, yaml.Unmarshal(text, &manifest))
	require.Equal(t, manifest.OAuth.Scopes.Bot, words(slackScopes))
}

func TestWhatACodeMayBe(t *testing.T) {
	require.Equal(t, "invalid_auth", word("invalid_auth"))
	require.Equal(t, "refused", word("user anna@example.com is unknown"))
	require.Equal(t, "refused", word(strings.Repeat("x", 65)))
	require.Equal(t, "refused", word(""))
}

func TestConfigurationFaults(t *testing.T) {
	c := Defaults()
	require.NoError(t, c.Validate())
	c = Config{SlackURL: "slack.com", ShopURL: "{shop}", MailAuthorities: "/nowhere"}
	err := c.Validate()
	for _, setting := range []string{
		"TRIBUTARY_SLACK_API_URL", "TRIBUTARY_CONNECT_SLACK_AUTHORISE_URL", "TRIBUTARY_MESSENGER_GRAPH_URL", "TRIBUTARY_MESSENGER_GRAPH_VERSION",
		"TRIBUTARY_CONNECT_FACEBOOK_URL", "TRIBUTARY_SHOPIFY_URL", "TRIBUTARY_SHOPIFY_API_VERSION", "TRIBUTARY_SMS_TWILIO_URL",
		"TRIBUTARY_SMS_VONAGE_URL", "TRIBUTARY_EMAIL_POSTMARK_URL", "TRIBUTARY_EMAIL_SMTP_AUTHORITIES",
	} {
		require.ErrorContains(t, err, setting+":")
	}
}

func TestFacebookPages(t *testing.T) {
	mux := http.NewServeMux()
	graph := standin.NewGraphOAuth(mux, standin.GraphOAuthConfig{
		AppID: "42", AppSecret: "canary-secret", PageSize: 2,
		Pages: []standin.GraphPage{{ID: "101", Name: "Shop"}, {ID: "102", Name: "Café"}, {ID: "103", Name: "Third"}},
	})
	m := made(t, mux).Of("messenger", nil).(*messenger)
	app := App{ClientID: "42", ClientSecret: "canary-secret"}
	try := Attempt{State: "s t&te", RedirectURL: "https://mesh.example/connect/callback/messenger"}
	address, err := m.AuthoriseURL(app, try)
	require.NoError(t, err)
	require.Contains(t, address, "/v25.0/dialog/oauth?")
	yes := asked(t, address, "allow")
	require.Equal(t, try.State, yes.Get("state"))

	pages, err := m.Exchange(t.Context(), app, try, yes)
	require.NoError(t, err)
	require.Len(t, pages, 3, "all pages of the list")
	require.Equal(t, Account{ExternalID: "102", Name: "Café", Credentials: map[string]string{"page_token": "EAA-canary-page-102"}}, pages[1])

	app.VerifyToken = "v"
	pages, err = m.Exchange(t.Context(), app, try, asked(t, address, "allow"))
	require.NoError(t, err)
	for _, page := range pages {
		require.Equal(t, channel.Grantor("v", standin.GraphUser), page.Grantor, "who granted it is kept, by a pseudonym")
	}

	_, err = m.Exchange(t.Context(), app, try, yes)
	fault(t, err, "100", "", false)
	_, err = m.Exchange(t.Context(), app, try, asked(t, address, "cancel"))
	fault(t, err, "cancelled", "", false)
	_, err = m.Exchange(t.Context(), App{ClientID: "42", ClientSecret: "wrong"}, try, asked(t, address, "allow"))
	fault(t, err, "1", "", false)
	graph.Configure(func(c *standin.GraphOAuthConfig) { c.Refused = []string{"pages_messaging"} })
	_, err = m.Exchange(t.Context(), app, try, asked(t, address, "allow"))
	fault(t, err, "scope_missing", "", false)
	graph.Configure(func(c *standin.GraphOAuthConfig) { c.Refused, c.Pages = nil, nil })
	_, err = m.Exchange(t.Context(), app, try, asked(t, address, "allow"))
	fault(t, err, "no_accounts", "", false)
	graph.Configure(func(c *standin.GraphOAuthConfig) { c.Pages = []standin.GraphPage{{ID: "102", Name: "Café"}} })

	page := pages[1]
	require.NoError(t, m.Attach(t.Context(), app, page))
	require.NoError(t, m.Attach(t.Context(), app, page), "it is repeatable")
	for _, field := range []string{"messages", "messaging_postbacks", "message_reads", "message_edits", "standby"} {
		require.Contains(t, strings.Split(graph.Subscribed("102"), ","), field)
	}
	require.NoError(t, m.Check(t.Context(), app, page))
	other := page
	other.ExternalID = "103"
	fault(t, m.Check(t.Context(), app, other), "other_account", "external_id", false)
	fault(t, m.Check(t.Context(), app, Account{ExternalID: "1", Credentials: map[string]string{"page_token": "none"}}), "190", "credentials/page_token", true)

	graph.Refuse(500)
	fault(t, m.Revoke(t.Context(), app, page), "http_500", "", false)
	graph.Refuse(0)
	require.NoError(t, m.Revoke(t.Context(), app, page))
	require.Empty(t, graph.Subscribed("102"))
	graph.Configure(func(c *standin.GraphOAuthConfig) { c.Pages = nil })
	require.NoError(t, m.Revoke(t.Context(), app, page), "a token that is void need not be taken back")
}

func TestShops(t *testing.T) {
	mux := http.NewServeMux()
	shop := standin.NewShopifyOAuth(mux, standin.ShopifyOAuthConfig{ClientID: "key", ClientSecret: "canary-secret", Shop: "acme.myshopify.com"})
	s := made(t, mux).Of("shopify", nil).(*shopify)
	app := App{ClientID: "key", ClientSecret: "canary-secret", WebhookURL: "https://mesh.example/webhooks/shopify/main"}
	try := Attempt{State: "state", RedirectURL: "https://mesh.example/connect/callback/shopify", Shop: "acme.myshopify.com"}
	address, err := s.AuthoriseURL(app, try)
	require.NoError(t, err)
	exchange := func(answer url.Values) (Account, error) {
		t.Helper()
		accounts, err := s.Exchange(t.Context(), app, try, answer)
		if err != nil {
			return Account{}, err
		}
		require.Len(t, accounts, 1)
		return accounts[0], nil
	}
	a, err := exchange(asked(t, address, "allow"))
	require.NoError(t, err)
	require.Equal(t, "acme.myshopify.com", a.ExternalID)
	require.Len(t, a.Credentials, 1)
	require.Equal(t, time.Hour, a.Lifetime)
	require.NotEmpty(t, a.Refresh)

	// Whatever Shopify did not sign, for the shop that was asked, is refused before any call.
	for name, test := range map[string]struct {
		change func(url.Values)
		sign   bool
		code   string
	}{
		"no hmac":              {func(q url.Values) { q.Del("hmac") }, false, "bad_hmac"},
		"an empty hmac":        {func(q url.Values) { q.Set("hmac", "") }, false, "bad_hmac"},
		"a wrong hmac":         {func(q url.Values) { q.Set("hmac", strings.Repeat("0", 64)) }, false, "bad_hmac"},
		"another code":         {func(q url.Values) { q.Set("code", "stolen") }, false, "bad_hmac"},
		"a further parameter":  {func(q url.Values) { q.Set("x", "y") }, false, "bad_hmac"},
		"another shop":         {func(q url.Values) { q.Set("shop", "evil.myshopify.com") }, true, "other_shop"},
		"no shop of Shopify's": {func(q url.Values) { q.Set("shop", "acme.myshopify.com.evil.example") }, true, "other_shop"},
		"no code":              {func(q url.Values) { q.Del("code") }, true, "no_code"},
	} {
		q := asked(t, address, "allow")
		test.change(q)
		if test.sign {
			q.Set("hmac", standin.ShopifyQueryHMAC("canary-secret", q))
		}
		_, err := exchange(q)
		t.Log(name)
		fault(t, err, test.code, "", false)
	}
	_, err = exchange(asked(t, address, "cancel"))
	fault(t, err, "cancelled", "", false)
	shop.Configure(func(c *standin.ShopifyOAuthConfig) { c.Granted = "read_orders" })
	_, err = exchange(asked(t, address, "allow"))
	fault(t, err, "scope_missing", "", false)
	// Shopify leaves out what a wider scope implies.
	shop.Configure(func(c *standin.ShopifyOAuthConfig) { c.Granted = "read_fulfillments,write_customers,write_orders" })
	_, err = exchange(asked(t, address, "allow"))
	require.NoError(t, err)
	shop.Configure(func(c *standin.ShopifyOAuthConfig) { c.Granted, c.Lasting = "", true })
	lasting, err := exchange(asked(t, address, "allow"))
	require.NoError(t, err)
	require.Zero(t, lasting.Lifetime)

	for _, elsewhere := range []string{"evil.example", "acme.myshopify.com.evil.example", "evil.example/acme.myshopify.com", "a@acme.myshopify.com", "", "ACME.myshopify.com", "acme.myshopify.com\n"} {
		_, err := s.AuthoriseURL(app, Attempt{Shop: elsewhere})
		fault(t, err, "not_a_shop", "shop", false)
	}

	// Webhooks are registered once.
	require.NoError(t, s.Attach(t.Context(), app, a))
	require.NoError(t, s.Attach(t.Context(), app, a))
	require.Equal(t, len(shopTopics), shop.Registered())
	for _, hook := range shop.Webhooks() {
		require.Equal(t, app.WebhookURL, hook.Address)
		require.True(t, slices.Contains(shopTopics, hook.Topic))
	}
	fault(t, s.Attach(t.Context(), App{WebhookURL: "/webhooks/shopify/main"}, a), "no_public_address", "", false)

	require.NoError(t, s.Check(t.Context(), app, a))
	shop.Expire()
	fault(t, s.Check(t.Context(), app, a), "http_401", "credentials/access_token", true)
	fresh, err := s.Refresh(t.Context(), app, a)
	require.NoError(t, err)
	require.NoError(t, s.Check(t.Context(), app, fresh))
	_, err = s.Refresh(t.Context(), app, a)
	fault(t, err, "invalid_grant", "credentials/access_token", true)
	_, err = s.Refresh(t.Context(), App{ClientID: "key", ClientSecret: "wrong"}, fresh)
	fault(t, err, "invalid_client", "", false)

	// Uninstalling works by a token that has ended too, while it can be bought anew.
	shop.Expire()
	require.NoError(t, s.Revoke(t.Context(), app, fresh))
	require.True(t, shop.Uninstalled())
	require.Empty(t, shop.Webhooks())
	require.NoError(t, s.Revoke(t.Context(), app, fresh), "what is gone need not be taken back")
	shop.Refuse(503)
	fault(t, s.Revoke(t.Context(), app, fresh), "http_503", "", false)
}

// The library that speaks to shops knows no contexts: its calls end with ours all the same.
func TestCallsToShopsEndWithTheirContext(t *testing.T) {
	s := made(t, http.HandlerFunc(unanswered)).Of("shopify", nil).(*shopify)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Check(ctx, App{}, Account{ExternalID: "acme.myshopify.com"})
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
}

func TestTwilioAccounts(t *testing.T) {
	twilio, err := standin.NewTwilio("127.0.0.1:0", "AC1", "canary-token", nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, twilio.Close()) })
	p := made(t, http.NotFoundHandler(), func(c *Config) { c.TwilioURL = twilio.URL })
	check := func(number, sid, token string) error {
		return p.Of("sms", map[string]string{"provider": "twilio"}).(Checker).Check(t.Context(), App{}, Account{
			ExternalID: number, Credentials: map[string]string{"account_sid": sid, "auth_token": token},
		})
	}
	require.NoError(t, check("+41445550100", "AC1", "canary-token"))
	fault(t, check("+41445550100", "AC1", "canary"), "20003", "credentials/auth_token", true)
	fault(t, check("+41445550100", "AC2", "canary-token"), "20003", "credentials/auth_token", true)
	twilio.Own("+41445550101")
	fault(t, check("+41445550100", "AC1", "canary-token"), "not_the_accounts", "external_id", false)
	require.NoError(t, check("whatsapp:+41445550100", "AC1", "canary-token"))
	require.NoError(t, check("12345", "AC1", "canary-token"))
}

func TestPostmarkServers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /server", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Postmark-Server-Token") != "canary-token" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"ErrorCode":10,"Message":"Request does not contain a valid Server token."}`))
			return
		}
		_, _ = w.Write([]byte(`{"ID":1,"Name":"Support","ApiTokens":["canary-token"]}`))
	})
	p := made(t, mux)
	for _, settings := range []map[string]string{nil, {"provider": "postmark"}} {
		checker := p.Of("email", settings).(Checker)
		require.NoError(t, checker.Check(t.Context(), App{}, Account{Credentials: map[string]string{"server_token": "canary-token"}}))
		fault(t, checker.Check(t.Context(), App{}, Account{Credentials: map[string]string{"server_token": "canary"}}), "10", "credentials/server_token", true)
	}
}

func TestAChannelWithoutAFileIsLeftAlone(t *testing.T) {
	require.Nil(t, made(t, http.NotFoundHandler()).Of("pigeon", nil))
}

// Of what is set, that alone is sent: an order has amounts, and addresses, that nobody asked to change.
func TestNotesAndTagsAreSentAlone(t *testing.T) {
	var asked []string
	s := made(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path+" "+string(body))
		if strings.Contains(r.URL.Path, "/customers/") {
			_, _ = io.WriteString(w, `{"customer":{"id":9223372036854775807,"tags":" a, Été,b ,","total_spent":"1.10"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"order":{"id":18446744073709551615,"note":null,"total_price":"1.10"}}`)
	})).Of("shopify", nil).(Shop)
	a := Account{ExternalID: "acme.myshopify.com", Credentials: map[string]string{"access_token": "shpat"}}
	note, err := s.SetOrderNote(t.Context(), App{}, a, 18446744073709551615, "")
	require.NoError(t, err)
	require.Empty(t, note)
	tags, err := s.SetCustomerTags(t.Context(), App{}, a, 9223372036854775807, []string{"a", "b & c"})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "Été", "b"}, tags, "what the shop says, not what was asked for")
	_, err = s.SetCustomerTags(t.Context(), App{}, a, 9223372036854775807, nil)
	require.NoError(t, err)
	require.Equal(t, []string{
		`PUT /admin/api/2026-10/orders/18446744073709551615.json {"order":{"id":18446744073709551615,"note":""}}`,
		`PUT /admin/api/2026-10/customers/9223372036854775807.json {"customer":{"id":9223372036854775807,"tags":"a, b \u0026 c"}}`,
		`PUT /admin/api/2026-10/customers/9223372036854775807.json {"customer":{"id":9223372036854775807,"tags":""}}`,
	}, asked)
	_, err = s.SetOrderNote(t.Context(), App{}, a, 1, "x")
	fault(t, err, "unreadable_answer", "", false)
}

func TestWhyAShopDoesNotSetSomething(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		code   string
		void   bool
		after  time.Duration
	}{
		"unknown":            {404, `{"errors":"Not Found"}`, "http_404", false, 0},
		"refused":            {422, `{"errors":{"note":["canary is too long"]}}`, "http_422", false, 0},
		"no scope":           {403, `{"errors":"[API] This action requires merchant approval for write_orders scope."}`, "scope_missing", false, 0},
		"no approval":        {403, `{"errors":"[API] This app is not approved to access REST endpoints with protected customer data."}`, "http_403", false, 0},
		"no such token":      {401, `{"errors":"[API] Invalid API key or access token"}`, "http_401", true, 0},
		"too often":          {429, `{"errors":"Exceeded 2 calls per second for api client."}`, "http_429", false, 2 * time.Second},
		"away":               {502, `<html>canary</html>`, "http_502", false, 0},
		"another's 404":      {404, `<html>canary</html>`, "unreadable_answer", false, 0},
		"nothing to read":    {200, `<html>canary</html>`, "unreadable_answer", false, 0},
		"an order of others": {200, `{"order":{"id":2,"note":"canary"}}`, "unreadable_answer", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := made(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "2.0")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})).Of("shopify", nil).(Shop)
			_, err := s.SetOrderNote(t.Context(), App{}, Account{ExternalID: "acme.myshopify.com"}, 1, "canary")
			field := ""
			if test.void {
				field = "credentials/access_token"
			}
			fault(t, err, test.code, field, test.void)
			require.Equal(t, test.after, RetryAfter(err))
		})
	}
}
