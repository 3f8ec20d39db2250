package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// SlackOAuth stands in for Slack's OAuth v2: a page that asks a workspace's owner, oauth.v2.access with token
// rotation, auth.test and auth.revoke for the tokens that it gave.
type SlackOAuth struct {
	carry func(w http.ResponseWriter, r *http.Request, method string, do func() (status int, answer any))

	mu     sync.Mutex
	cfg    SlackOAuthConfig
	next   int
	codes  map[string]slackGrant
	tokens map[string]string // a token, or what refreshes it, to the other
	dead   map[string]bool
	calls  []string
}

// SlackOAuthConfig is the app that a SlackOAuth knows, and who installs it.
type SlackOAuthConfig struct {
	ClientID, ClientSecret, AppID string
	Team, TeamName                string
	// Enterprise: an organisation installs the app instead of a team.
	Enterprise string
	// Granted scopes; empty: those asked for.
	Granted string
	// Rotation: tokens end after twelve hours.
	Rotation bool
}

type slackGrant struct{ redirect, scope, challenge string }

// newSlackOAuth registers its routes on a mux: /oauth/v2/authorize and below /api/. carry runs a call of the API.
func newSlackOAuth(mux *http.ServeMux, cfg SlackOAuthConfig, carry func(http.ResponseWriter, *http.Request, string, func() (int, any))) *SlackOAuth {
	o := &SlackOAuth{carry: carry, cfg: cfg, codes: map[string]slackGrant{}, tokens: map[string]string{}, dead: map[string]bool{}}
	mux.HandleFunc("GET /oauth/v2/authorize", o.authorise)
	mux.HandleFunc("POST /api/oauth.v2.access", o.access)
	mux.HandleFunc("POST /api/auth.revoke", o.revoke)
	return o
}

// Configure changes who installs what from now on.
func (o *SlackOAuth) Configure(change func(*SlackOAuthConfig)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.cfg)
}

// Calls of the API so far, by method.
func (o *SlackOAuth) Calls(method string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, call := range o.calls {
		if call == method {
			n++
		}
	}
	return n
}

// End makes every token, and what would refresh it, void.
func (o *SlackOAuth) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for token := range o.tokens {
		o.dead[token] = true
	}
}

// Alive tells whether a token was given and is not void.
func (o *SlackOAuth) Alive(token string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, given := o.tokens[token]
	return given && !o.dead[token]
}

// authorise is the page on which a workspace's owner says yes or no: two links.
func (o *SlackOAuth) authorise(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o.mu.Lock()
	defer o.mu.Unlock()
	if q.Get("client_id") != o.cfg.ClientID || q.Get("redirect_uri") == "" {
		http.Error(w, "invalid_client_id", http.StatusBadRequest)
		return
	}
	o.next++
	code := fmt.Sprintf("code-%d", o.next)
	o.codes[code] = slackGrant{redirect: q.Get("redirect_uri"), scope: q.Get("scope"), challenge: q.Get("code_challenge")}
	consent(w, q, url.Values{"code": {code}}, url.Values{"error": {"access_denied"}})
}

func (o *SlackOAuth) access(w http.ResponseWriter, r *http.Request) {
	o.carry(w, r, "oauth.v2.access", func() (int, any) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls = append(o.calls, "oauth.v2.access")
		if r.PostFormValue("client_id") != o.cfg.ClientID || r.PostFormValue("client_secret") != o.cfg.ClientSecret {
			return 200, map[string]any{"ok": false, "error": "bad_client_secret"}
		}
		if r.PostFormValue("grant_type") == "refresh_token" {
			old := r.PostFormValue("refresh_token")
			if token, given := o.tokens[old]; !given || o.dead[old] || !strings.HasPrefix(old, "xoxe-") {
				return 200, map[string]any{"ok": false, "error": "invalid_refresh_token"}
			} else if o.dead[old] = true; token == "" {
				return 200, map[string]any{"ok": false, "error": "token_revoked"}
			}
			return 200, o.grant(o.cfg.Granted)
		}
		code := r.PostFormValue("code")
		g, ok := o.codes[code]
		delete(o.codes, code)
		switch {
		case !ok:
			return 200, map[string]any{"ok": false, "error": "invalid_code"}
		case g.redirect != r.PostFormValue("redirect_uri"):
			return 200, map[string]any{"ok": false, "error": "bad_redirect_uri"}
		case g.challenge != "" && g.challenge != s256(r.PostFormValue("code_verifier")):
			return 200, map[string]any{"ok": false, "error": "invalid_code_verifier"}
		}
		if o.cfg.Granted != "" {
			g.scope = o.cfg.Granted
		}
		return 200, o.grant(g.scope)
	})
}

func (o *SlackOAuth) grant(scope string) map[string]any {
	o.next++
	token := fmt.Sprintf("xoxb-canary-%d", o.next)
	answer := map[string]any{
		"ok": true, "access_token": token, "token_type": "bot", "scope": scope, "bot_user_id": "U0BOT", "app_id": o.cfg.AppID,
		"team": map[string]any{"id": o.cfg.Team, "name": o.cfg.TeamName}, "enterprise": nil, "is_enterprise_install": false,
		"authed_user": map[string]any{"id": "U0OWNER"},
	}
	if o.cfg.Enterprise != "" {
		answer["team"], answer["is_enterprise_install"] = nil, true
		answer["enterprise"] = map[string]any{"id": o.cfg.Enterprise, "name": o.cfg.TeamName}
	}
	refresh := ""
	if o.cfg.Rotation {
		token = fmt.Sprintf("xoxe.xoxb-canary-%d", o.next)
		refresh = fmt.Sprintf("xoxe-canary-%d", o.next)
		answer["access_token"], answer["refresh_token"], answer["expires_in"] = token, refresh, 43200
		o.tokens[refresh] = token
	}
	o.tokens[token] = refresh
	return answer
}

// who answers auth.test; ok is false for tokens that were not given here.
func (o *SlackOAuth) who(token string) (answer map[string]any, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, "auth.test")
	if _, given := o.tokens[token]; !given {
		return nil, false
	}
	if o.dead[token] {
		return map[string]any{"ok": false, "error": "token_revoked"}, true
	}
	answer = map[string]any{"ok": true, "team_id": o.cfg.Team, "team": o.cfg.TeamName, "user_id": "U0BOT", "bot_id": "B0BOT"}
	if o.cfg.Enterprise != "" {
		answer["enterprise_id"], answer["is_enterprise_install"] = o.cfg.Enterprise, true
	}
	return answer, true
}

func (o *SlackOAuth) revoke(w http.ResponseWriter, r *http.Request) {
	o.carry(w, r, "auth.revoke", func() (int, any) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls = append(o.calls, "auth.revoke")
		token := tokenOf(r)
		if _, given := o.tokens[token]; !given {
			return 200, map[string]any{"ok": false, "error": "invalid_auth"}
		}
		if o.dead[token] {
			return 200, map[string]any{"ok": false, "error": "token_revoked"}
		}
		o.dead[token] = true
		return 200, map[string]any{"ok": true, "revoked": true}
	})
}

func tokenOf(r *http.Request) string {
	if token := r.FormValue("token"); token != "" {
		return token
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
