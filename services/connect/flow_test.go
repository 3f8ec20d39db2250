package connect

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
)

func TestASlackWorkspaceIsConnectedByItsOwner(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		id, link := h.link()
		require.True(h, strings.HasPrefix(link, publicURL+"/connect/"), link)
		require.Equal(h, "pending", h.authorisation(id)["status"])

		o := h.browser()
		o.open(link).shows(http.StatusOK, "Connect Slack to “Other”")
		back := h.answer(o.leave(link), "allow")
		o.open(back).shows(http.StatusOK, "Slack is connected to “Other”")

		done := h.authorisation(id)
		require.Equal(h, "done", done["status"])
		require.NotContains(h, done, "url")
		c := h.connection(done["connection_id"].(string))
		require.Equal(h, "T0OAUTH", c["external_id"])
		require.Equal(h, "Acme", c["name"])
		require.Equal(h, "active", c["status"])
		require.Equal(h, "ok", c["health"].(map[string]any)["status"])
		opened := h.openedSlack(c["id"].(string))
		require.Len(h, opened, 1, "only what the adapter needs is published")
		require.True(h, h.slack.OAuth.Alive(opened["bot_token"]))
		h.requireNoSecrets("canary")

		// Connected again it is the same connection, under the name that its workspace gave it.
		h.as(h.other).patch("/v1/connections/"+c["id"].(string), map[string]any{"name": "Ours"}).is(http.StatusOK)
		require.Equal(h, c["id"], h.installed())
		require.Equal(h, "Ours", h.connection(c["id"].(string))["name"])

		h.as(h.operator).get("/v1/connections/authorisations/"+id).problem(http.StatusNotFound, "not_found")
	})
}

func TestWhatALinkNeeds(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	c := h.as(h.other)
	ask := func(body map[string]any) answer { return c.post("/v1/connections/authorisations", body) }
	ask(map[string]any{"channel": "sms", "app_id": h.app}).problem(http.StatusUnprocessableEntity, "invalid", "channel")
	ask(map[string]any{"channel": "fax"}).problem(http.StatusUnprocessableEntity, "invalid", "channel", "app_id")
	ask(map[string]any{"channel": "slack", "app_id": h.app, "shop": "acme.myshopify.com"}).problem(http.StatusUnprocessableEntity, "invalid", "shop")
	for _, elsewhere := range []string{
		"https://evil.example/x", "//evil.example", "https://app.example.evil.example/", "https://app.example@evil.example/", "http://app.example/",
		"javascript:alert(1)", "https://app.example:444/", "/relative", "https:app.example", "https://evil.example\\@app.example/",
	} {
		ask(map[string]any{"channel": "slack", "app_id": h.app, "return_url": elsewhere}).problem(http.StatusUnprocessableEntity, "invalid", "return_url")
	}
	strangers := h.as(h.operator).post("/v1/apps", slackApp("private")).is(http.StatusCreated).id()
	ask(map[string]any{"channel": "slack", "app_id": strangers}).problem(http.StatusUnprocessableEntity, "invalid", "app_id")
	bare := slackApp("bare")
	bare["secrets"] = map[string]any{"signing_secret": "s"}
	ask(map[string]any{"channel": "slack", "app_id": c.post("/v1/apps", bare).id()}).problem(http.StatusUnprocessableEntity, "invalid", "app_id")

	first := c.with("k").post("/v1/connections/authorisations", map[string]any{"channel": "slack", "app_id": h.app}).is(http.StatusCreated)
	again := c.with("k").post("/v1/connections/authorisations", map[string]any{"channel": "slack", "app_id": h.app}).is(http.StatusCreated)
	require.Equal(t, first.object()["url"], again.object()["url"])

	h.s.publicURL = ""
	ask(map[string]any{"channel": "slack", "app_id": h.app}).problem(http.StatusConflict, "conflict")
}

func TestABrowserIsSentOnOnlyWhereTheOperatorAllowsIt(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	id, link := h.link("return_url", "https://app.example/settings?tab=slack")
	o := h.browser()
	o.open(h.answer(o.leave(link), "allow")).shows(http.StatusOK, "Slack is connected")
	require.Equal(t, "https://app.example/settings?authorisation_id="+id+"&tab=slack", o.find(`<a href="([^"]*)"`))
	require.Equal(t, o.find(`<a href="([^"]*)"`), o.find(`content="0; url=([^"]*)"`))
}

// Whatever comes in another way than by the browser that began changes nothing.
func TestAnswersThatAreNotTheOwnersChangeNothing(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		id, link := h.link()
		o := h.browser()
		back := h.answer(o.leave(link), "allow")
		unchanged := func() {
			h.Helper()
			require.Empty(h, h.connections())
			require.Equal(h, "pending", h.authorisation(id)["status"])
			require.Zero(h, h.slack.OAuth.Calls("oauth.v2.access"), "no code was tried")
		}
		h.browser().open(back).shows(http.StatusForbidden, "another browser")
		unchanged()
		h.browser().open(link).shows(http.StatusForbidden, "another browser")

		// A victim's browser that has an authorisation of its own under way is another browser too.
		_, theirs := h.link()
		victim := h.browser()
		_ = victim.leave(theirs)
		victim.open(back).shows(http.StatusForbidden, "another browser")
		unchanged()

		for name, forged := range map[string]string{
			"no state":        "/connect/callback/slack?code=code-1",
			"a guessed state": "/connect/callback/slack?code=code-1&state=guessed",
			"another channel": strings.Replace(back, "/callback/slack", "/callback/sms", 1),
		} {
			h.Log(name)
			o.open(forged).shows(http.StatusBadRequest, "belongs to nothing that was begun here")
			unchanged()
		}

		// Forms of another page, of another browser, or without a cookie.
		o.open(link).post(link, url.Values{"form": {"forged"}}).shows(http.StatusForbidden, "not the one that you were shown last")
		_, fresh := h.link()
		stranger := h.browser().open(fresh)
		form := url.Values{"form": {stranger.find(`name="form" value="([^"]*)"`)}}
		h.browser().post(fresh, form).shows(http.StatusForbidden, "cookie")
		other := h.browser().open(fresh)
		other.post(fresh, form).shows(http.StatusForbidden, "not the one that you were shown last")
		other.post(fresh, url.Values{"form": {strings.Repeat("x", 64<<10)}}).shows(http.StatusForbidden, "not the one")
		unchanged()

		h.browser().open(link[:len(link)-1]+"!").shows(http.StatusNotFound, "not known")
		h.browser().open("/connect/"+id).shows(http.StatusNotFound, "not known")
		unchanged()

		// The owner's own answer still counts, once.
		o.open(back).shows(http.StatusOK, "Slack is connected")
		require.Len(h, h.connections(), 1)
		o.open(back).shows(http.StatusBadRequest, "was used before")
		require.Equal(h, 1, h.slack.OAuth.Calls("oauth.v2.access"))
		require.Equal(h, "done", h.authorisation(id)["status"], "a replay does not undo it")
	})
}

func TestAnAnswerIsUsedOnceHoweverOftenItComesAtOnce(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		_, link := h.link()
		o := h.browser()
		back := h.answer(o.leave(link), "allow")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				twin := h.browser()
				for name, value := range o.cookies {
					twin.cookies[name] = value
				}
				twin.open(back)
			})
		}
		all.Wait()
		require.Equal(h, 1, h.slack.OAuth.Calls("oauth.v2.access"))
		require.Len(h, h.connections(), 1)
	})
}

func TestALinkExpires(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		id, link := h.link()
		o := h.browser()
		back := h.answer(o.leave(link), "allow")
		h.pass(authorisationFor)
		o.open(back).shows(http.StatusGone, "expired")
		o.open(link).shows(http.StatusGone, "expired")
		require.Equal(h, "expired", h.authorisation(id)["status"])
		require.Empty(h, h.connections())
		require.Zero(h, h.slack.OAuth.Calls("oauth.v2.access"))
	})
}

func TestWhatTheOwnerOrSlackRefusesIsToldAndMayBeTriedAgain(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	for name, test := range map[string]struct {
		change     func(*standin.SlackOAuthConfig)
		fault      standin.Fault
		answer     string
		code, page string
	}{
		"the owner says no":   {answer: "cancel", code: "cancelled", page: "said no"},
		"a scope is missing":  {change: func(c *standin.SlackOAuthConfig) { c.Granted = "chat:write" }, code: "scope_missing", page: "Not everything"},
		"another app's":       {change: func(c *standin.SlackOAuthConfig) { c.AppID = "A2" }, code: "other_app", page: "another app"},
		"no team":             {change: func(c *standin.SlackOAuthConfig) { c.Team = "" }, code: "no_bot_token", page: "granted nothing"},
		"a team that is none": {change: func(c *standin.SlackOAuthConfig) { c.Team = "../x" }, code: "no_accounts", page: "nothing"},
		"the app's secret":    {change: func(c *standin.SlackOAuthConfig) { c.ClientSecret = "other" }, code: "bad_client_secret", page: "does not know the app"},
		"Slack is down":       {fault: func(int, string) standin.Failure { return standin.Failure{Refuse: 503} }, code: "http_503", page: "The provider has a fault of its own."},
		"Slack has had enough": {fault: func(int, string) standin.Failure {
			return standin.Failure{Refuse: 429, Header: http.Header{"Retry-After": {"30"}}}
		}, code: "ratelimited", page: "fewer calls"},
		"Slack hangs up": {fault: func(int, string) standin.Failure { return standin.Failure{HangUp: true} }, code: "unreachable", page: "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			before := standin.SlackOAuthConfig{}
			h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) {
				before = *c
				if test.change != nil {
					test.change(c)
				}
			})
			id, link := h.link()
			o := h.browser()
			if test.answer == "" {
				test.answer = "allow"
			}
			back := h.answer(o.leave(link), test.answer)
			h.slack.Fail(test.fault)
			o.open(back).shows(http.StatusOK, "came to nothing").shows(http.StatusOK, test.page)
			got := h.authorisation(id)
			require.Equal(t, "failed", got["status"])
			require.Equal(t, test.code, got["reason"].(map[string]any)["code"])
			require.Empty(t, h.connections())

			h.slack.Fail(nil)
			h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { *c = before })
			o.open(h.answer(o.leave(link), "allow")).shows(http.StatusOK, "Slack is connected")
			h.as(h.other).delete("/v1/connections/" + h.authorisation(id)["connection_id"].(string)).is(http.StatusNoContent)
			h.forget(t)
		})
	}
}

// forget starts the next case without connections.
func (h *installing) forget(t *testing.T) {
	t.Helper()
	require.NoError(t, h.s.db.Tx(t.Context(), func(tx *sqldb.Tx) error {
		for _, table := range []string{"authorisations", "connections"} {
			if _, err := tx.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
				return err
			}
		}
		return nil
	}))
}

func TestACodeOfAnotherAttemptIsRefused(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	h.cfg.Providers.SlackPKCE = true
	h.rebuild(h.s.db, h.s.keepers)
	attacker, victim := h.browser(), h.browser()
	_, theirs := h.link()
	stolen, err := url.Parse(h.answer(attacker.leave(theirs), "allow"))
	require.NoError(t, err)
	id, link := h.link()
	own, err := url.Parse(h.answer(victim.leave(link), "allow"))
	require.NoError(t, err)
	query := own.Query()
	query.Set("code", stolen.Query().Get("code"))
	own.RawQuery = query.Encode()
	victim.open(own.String()).shows(http.StatusOK, "came to nothing")
	require.Equal(t, "invalid_code_verifier", h.authorisation(id)["reason"].(map[string]any)["code"])
	require.Empty(t, h.connections())
}

func TestAnAccountOfAnotherWorkspaceStaysThere(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		h.installed()
		shared := slackApp("shared")
		shared["operator"] = true
		app := h.as(h.operator).post("/v1/apps", shared).is(http.StatusCreated).id()
		made := h.as(h.operator).post("/v1/connections/authorisations", map[string]any{"channel": "slack", "app_id": app}).is(http.StatusCreated).object()
		o := h.browser()
		o.open(h.answer(o.leave(made["url"].(string)), "allow")).shows(http.StatusOK, "connected in another workspace")
		require.Zero(h, h.slack.OAuth.Calls("auth.revoke"), "what the other works with is not taken from it")
		require.Empty(h, h.as(h.operator).ids("/v1/connections", nil))
	})
}

func TestAnOrganisationIsConnectedAsOne(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Enterprise = "E0GRID" })
	require.Equal(t, "E0GRID", h.connection(h.installed())["external_id"])
}

func TestCookiesAreBoundToHTTPSWhereThereIsHTTPS(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	h.s.links.secure = true
	_, link := h.link()
	cookies := h.browser().open(link).Result().Cookies()
	require.Len(t, cookies, 1)
	require.True(t, strings.HasPrefix(cookies[0].Name, "__Host-"))
	require.True(t, cookies[0].Secure)
	require.Equal(t, "/", cookies[0].Path)
	require.Equal(t, int(authorisationFor/time.Second), cookies[0].MaxAge)
}

func TestDisconnectingTakesTheGrantBack(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Rotation = true })
		id := h.installed()
		token := h.openedSlack(id)["bot_token"]
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.False(h, h.slack.OAuth.Alive(token))
		require.Equal(h, 2, h.slack.OAuth.Calls("auth.revoke"), "the token, and what would buy a new one")
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.Equal(h, 2, h.slack.OAuth.Calls("auth.revoke"))
		require.Zero(h, h.withdrawals())
	})
}

func (h *house) withdrawals() (n int) {
	h.Helper()
	require.NoError(h, h.s.db.View(h.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(h.Context(), `SELECT count(*) FROM withdrawals`).Scan(&n)
	}))
	return n
}
