package connect

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// texting is a house whose Twilio is a stand-in.
func texting(h *house) *standin.Twilio {
	h.Helper()
	twilio, err := standin.NewTwilio("127.0.0.1:0", "AC1", "canary-token", nil)
	require.NoError(h, err)
	h.Cleanup(func() { require.NoError(h, twilio.Close()) })
	h.cfg.Providers.TwilioURL = twilio.URL
	h.rebuild(h.s.db, h.s.keepers)
	return twilio
}

func (h *house) checkDue() {
	h.Helper()
	c, err := newChecks(h.s, telemetry.Discard().Meter)
	require.NoError(h, err)
	_, err = h.s.workOff(h.Context(), "check_at", "status = 'active'", c.check)
	require.NoError(h, err)
}

func (h *house) refreshDue() (n int) {
	h.Helper()
	f, err := newRefreshes(h.s, telemetry.Discard().Meter)
	require.NoError(h, err)
	n, err = h.s.workOff(h.Context(), "refresh_at", "status IN ('active', 'reauthorise')", f.refresh)
	require.NoError(h, err)
	return n
}

func healthOf(c map[string]any) (status, why string) {
	h := c["health"].(map[string]any)
	if r, ok := h["reason"].(map[string]any); ok {
		why = r["code"].(string)
	}
	return h["status"].(string), why
}

func TestPastedCredentialsAreTriedAtOnce(t *testing.T) {
	each(t, func(h *house) {
		twilio := texting(h)
		c := h.as(h.other)
		made := c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).object()
		status, _ := healthOf(made)
		require.Equal(h, healthy, status)
		require.Contains(h, made["health"], "checked_at")

		wrong := smsAccount("+41790000000")
		wrong["credentials"] = map[string]any{"account_sid": "AC1", "auth_token": "wrong"}
		c.post("/v1/connections", wrong).problem(http.StatusUnprocessableEntity, "invalid", "credentials/auth_token")
		twilio.Own("+41791234567")
		c.post("/v1/connections", smsAccount("+41790000000")).problem(http.StatusUnprocessableEntity, "invalid", "external_id")
		require.Len(h, c.ids("/v1/connections", nil), 1, "nothing was connected")
		c.post("/v1/connections", smsAccount("Shop")).is(http.StatusCreated)

		// Who does not want to be asked about says so.
		wrong["check"] = false
		untried := c.post("/v1/connections", wrong).is(http.StatusCreated)
		status, why := healthOf(untried.object())
		require.Equal(h, [2]string{unknown, ""}, [2]string{status, why})

		id := made["id"].(string)
		c.patch("/v1/connections/"+id, map[string]any{"credentials": map[string]any{"account_sid": "AC1", "auth_token": "wrong"}}).
			problem(http.StatusUnprocessableEntity, "invalid", "credentials/auth_token")
		require.Equal(h, "canary-token", h.opened(id).Credentials["auth_token"])
		c.patch("/v1/connections/"+id, map[string]any{"credentials": map[string]any{"account_sid": "AC1", "auth_token": "wrong"}, "check": false}).is(http.StatusOK)
	})
}

// A provider's outage keeps nobody from connecting; only what it surely refuses is refused.
func TestAProviderThatCantBeAskedIsAskedLater(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	twilio := texting(h)
	c := h.as(h.other)
	for why, fault := range map[string]standin.Failure{
		"http_503": {Refuse: 503}, "http_429": {Refuse: 429}, "http_404": {Refuse: 404}, "http_401": {Refuse: 401}, "unreachable": {HangUp: true},
	} {
		twilio.Fail(func(int, string) standin.Failure { return fault })
		made := c.post("/v1/connections", smsAccount("+41791234567")).object()
		status, got := healthOf(made)
		require.Equal(t, [2]string{unknown, why}, [2]string{status, got})
		require.Equal(t, active, made["status"])
	}
	twilio.Fail(nil)
	id := c.ids("/v1/connections", nil)[0]
	h.checkDue()
	status, _ := healthOf(c.get("/v1/connections/" + id).object())
	require.Equal(t, unknown, status, "it is not due yet")
	h.pass(2 * checkSoon)
	h.checkDue()
	status, _ = healthOf(c.get("/v1/connections/" + id).object())
	require.Equal(t, healthy, status)
}

func TestOnlyWhatAProviderSurelyCallsVoidIsReauthorised(t *testing.T) {
	each(t, func(h *house) {
		twilio := texting(h)
		c := h.as(h.other)
		id := c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
		published := h.record(id).GetUpdatedAtUs()

		for why, fault := range map[string]standin.Failure{"http_500": {Refuse: 500}, "http_429": {Refuse: 429}, "http_401": {Refuse: 401}, "unreachable": {HangUp: true}} {
			twilio.Fail(func(int, string) standin.Failure { return fault })
			h.pass(2 * h.s.checkEvery)
			h.checkDue()
			got := c.get("/v1/connections/" + id).object()
			status, code := healthOf(got)
			require.Equal(h, [3]any{failing, why, active}, [3]any{status, code, got["status"]})
		}
		twilio.Fail(nil)
		twilio.Own()
		h.pass(2 * h.s.checkEvery)
		h.checkDue()
		got := c.get("/v1/connections/" + id).object()
		_, code := healthOf(got)
		require.Equal(h, [2]any{"not_the_accounts", active}, [2]any{code, got["status"]})
		require.Equal(h, published, h.record(id).GetUpdatedAtUs(), "health is nobody's business but the API's")

		// The account's token was changed at Twilio.
		require.NoError(h, twilio.Close())
		changed, err := standin.NewTwilio("127.0.0.1:0", "AC1", "another", nil)
		require.NoError(h, err)
		defer func() { require.NoError(h, changed.Close()) }()
		h.cfg.Providers.TwilioURL = changed.URL
		h.rebuild(h.s.db, h.s.keepers)
		h.pass(2 * h.s.checkEvery)
		h.checkDue()
		got = c.get("/v1/connections/" + id).object()
		require.Equal(h, reauthorise, got["status"])
		require.Equal(h, "20003", got["status_reason"].(map[string]any)["code"])
		require.NotEmpty(h, got["status_reason"].(map[string]any)["text"])
		require.Equal(h, pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE, h.record(id).GetStatus(), "and the adapter hears it")

		account := smsAccount("+41791234567")
		account["credentials"] = map[string]any{"account_sid": "AC1", "auth_token": "another"}
		back := c.post("/v1/connections", account).is(http.StatusOK).object()
		require.Equal(h, active, back["status"])
		require.NotContains(h, back, "status_reason")
	})
}

// Of replicas that look at once, one asks.
func TestReplicasDoNotCheckTwice(t *testing.T) {
	each(t, func(h *house) {
		twilio := texting(h)
		c := h.as(h.other)
		for _, number := range []string{"+41791234567", "+41791234568", "+41791234569"} {
			c.post("/v1/connections", smsAccount(number)).is(http.StatusCreated)
		}
		var mu sync.Mutex
		asked := 0
		twilio.Fail(func(_ int, method string) standin.Failure {
			mu.Lock()
			defer mu.Unlock()
			if method == "accounts.fetch" {
				asked++
			}
			return standin.Failure{}
		})
		h.pass(2 * h.s.checkEvery)
		var all sync.WaitGroup
		for range 4 {
			all.Go(h.checkDue)
		}
		all.Wait()
		require.Equal(h, 3, asked)
	})
}

// What a check found of old credentials says nothing of new ones.
func TestAResultThatComesLateChangesNothing(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	texting(h)
	c := h.as(h.other)
	account := smsAccount("+41791234567")
	account["check"], account["credentials"] = false, map[string]any{"account_sid": "AC1", "auth_token": "wrong"}
	id := c.post("/v1/connections", account).is(http.StatusCreated).id()
	h.pass(2 * checkSoon)
	claimed, err := h.s.claim(t.Context(), "check_at", "status = 'active'")
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	c.post("/v1/connections", smsAccount("+41791234567")).is(http.StatusOK)
	checks, err := newChecks(h.s, telemetry.Discard().Meter)
	require.NoError(t, err)
	require.NoError(t, checks.check(t.Context(), claimed[0]))
	got := c.get("/v1/connections/" + id).object()
	require.Equal(t, active, got["status"])
	status, _ := healthOf(got)
	require.Equal(t, healthy, status)
}

func TestTokensAreRefreshedLongBeforeTheyEnd(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Rotation = true })
		id := h.installed()
		first := h.openedSlack(id)
		require.Len(h, first, 1, "what buys new tokens is not published")
		require.Zero(h, h.refreshDue())

		h.pass(6*time.Hour + time.Second)
		require.Equal(h, 1, h.refreshDue())
		second := h.openedSlack(id)
		require.NotEqual(h, first, second)
		require.True(h, h.slack.OAuth.Alive(second["bot_token"]))
		require.Zero(h, h.refreshDue())

		// Slack is away for a while: the old token lasts, and the new one comes later.
		h.pass(6*time.Hour + time.Second)
		h.slack.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: 500} })
		h.refreshDue()
		c := h.connection(id)
		status, why := healthOf(c)
		require.Equal(h, [3]any{failing, "http_500", active}, [3]any{status, why, c["status"]})
		require.Equal(h, second, h.openedSlack(id))
		h.slack.Fail(nil)
		h.pass(refreshAgain + time.Second)
		require.Equal(h, 1, h.refreshDue())
		require.NotEqual(h, second, h.openedSlack(id))

		// Slack refuses for good.
		h.slack.OAuth.End()
		h.pass(6*time.Hour + time.Second)
		h.refreshDue()
		c = h.connection(id)
		require.Equal(h, reauthorise, c["status"])
		require.Equal(h, "invalid_refresh_token", c["status_reason"].(map[string]any)["code"])
		h.pass(24 * time.Hour)
		require.Zero(h, h.refreshDue(), "and is not asked again")

		require.Equal(h, id, h.installed())
		require.Equal(h, active, h.connection(id)["status"])
	})
}

// Of replicas that look at once one buys: a refresh token is good for one time.
func TestReplicasDoNotRefreshTwice(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Rotation = true })
		id := h.installed()
		before := h.slack.OAuth.Calls("oauth.v2.access")
		h.pass(6*time.Hour + time.Second)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { h.refreshDue() })
		}
		all.Wait()
		require.Equal(h, before+1, h.slack.OAuth.Calls("oauth.v2.access"))
		require.True(h, h.slack.OAuth.Alive(h.openedSlack(id)["bot_token"]))
		require.Equal(h, active, h.connection(id)["status"])
	})
}

// A token that ended while the mesh was down, and for which the adapter had it reauthorised, is bought anew.
func TestATokenThatEndedIsBoughtAnew(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Rotation = true })
	id := h.installed()
	h.pass(24 * time.Hour)
	require.NoError(t, h.hear(t, said(t, id, "token_expired", h.s.now(), true)))
	require.Equal(t, "token_expired", h.connection(id)["status_reason"].(map[string]any)["code"])
	h.refreshDue()
	require.Equal(t, active, h.connection(id)["status"])
}

func TestWhatIsBoughtForAnAccountThatWasDisconnectedMeanwhileIsTakenBack(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		h.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.Rotation = true })
		id := h.installed()
		h.pass(6*time.Hour + time.Second)
		claimed, err := h.s.claim(h.Context(), "refresh_at", "status = 'active'")
		require.NoError(h, err)
		require.Len(h, claimed, 1)
		refreshes, err := newRefreshes(h.s, telemetry.Discard().Meter)
		require.NoError(h, err)
		fresh, err := refreshes.buy(h.Context(), claimed[0].connectionRow)
		require.NoError(h, err)
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.NoError(h, refreshes.keep(h.Context(), claimed[0], fresh))
		require.Equal(h, disabled, h.connection(id)["status"])
		require.Empty(h, h.record(id).GetSealedCredentials())
		h.pass(lease + time.Second)
		h.withdrawDue()
		require.False(h, h.slack.OAuth.Alive(fresh.Credentials["bot_token"]))
		require.Zero(h, h.withdrawals())
	})
}

func (h *house) withdrawDue() {
	h.Helper()
	require.NoError(h, h.s.takeBackDue(h.Context()))
}

func TestAnOutageKeepsNobodyFromDisconnecting(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		id := h.installed()
		token := h.openedSlack(id)["bot_token"]
		h.slack.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: 500} })
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.Empty(h, h.record(id).GetSealedCredentials(), "the tokens are gone here")
		require.Equal(h, 1, h.withdrawals())
		h.pass(lease + time.Second)
		h.withdrawDue()
		require.Equal(h, 1, h.withdrawals())
		require.True(h, h.slack.OAuth.Alive(token))

		h.slack.Fail(nil)
		h.pass(withdrawAgain + time.Second)
		h.withdrawDue()
		require.False(h, h.slack.OAuth.Alive(token), "and, once it answers, at the provider")
		require.Zero(h, h.withdrawals())
	})
}

func TestTakingBackIsGivenUpAfterADay(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	id := h.installed()
	h.slack.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: 500} })
	h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
	h.pass(withdrawFor)
	h.withdrawDue()
	require.Zero(t, h.withdrawals())
	require.Contains(t, h.log.String(), "a grant was not taken back")
}

// Providers give the same grant again: what is still to be taken back of the old one would end the new.
func TestConnectingAgainKeepsTheGrant(t *testing.T) {
	eachInstalling(t, func(h *installing) {
		id := h.installed()
		h.slack.Fail(func(_ int, method string) standin.Failure {
			if method == "auth.revoke" {
				return standin.Failure{Refuse: 500}
			}
			return standin.Failure{}
		})
		h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
		require.Equal(h, 1, h.withdrawals())
		require.Equal(h, id, h.installed())
		require.Zero(h, h.withdrawals())
	})
}

// What was pasted may serve elsewhere: it is dropped, and not ended.
func TestPastedTokensAreNotRevoked(t *testing.T) {
	h := newInstalling(t, sqltest.SQLite(t, migrations))
	id := h.as(h.other).post("/v1/connections", map[string]any{
		"channel": "slack", "external_id": "T0PASTED", "app_id": h.app, "credentials": map[string]any{"bot_token": "xoxb-pasted"},
	}).is(http.StatusCreated).id()
	h.as(h.other).delete("/v1/connections/" + id).is(http.StatusNoContent)
	require.Zero(t, h.slack.OAuth.Calls("auth.revoke"))
	require.Zero(t, h.withdrawals())
}

// Connections from before anybody checked are asked after too.
func TestConnectionsOfBeforeAreChecked(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, migrations), bustest.Embedded(t))
	texting(h)
	id := h.as(h.other).post("/v1/connections", smsAccount("+41791234567")).is(http.StatusCreated).id()
	require.NoError(t, h.s.db.Tx(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE connections SET check_at = 1, health = 'unknown', checked_at = 0`)
		return err
	}))
	h.checkDue()
	status, _ := healthOf(h.as(h.other).get("/v1/connections/" + id).object())
	require.Equal(t, healthy, status)
}
