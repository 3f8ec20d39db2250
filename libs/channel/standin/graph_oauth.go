package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// GraphOAuth stands in for Facebook Login and for what the Graph API tells of a person's Pages: the dialog, tokens
// short and long, /me, /me/permissions, /me/accounts, and a Page's subscribed_apps. Every call must carry the proof of the
// app's secret.
type GraphOAuth struct {
	mu  sync.Mutex
	cfg GraphOAuthConfig
	//bound:exempt a stand-in's
	codes      map[string]string
	subscribed map[string]string
	next       int
	refuse     int
}

// GraphOAuthConfig is the app that it knows, and who logs in.
type GraphOAuthConfig struct {
	AppID, AppSecret string
	// Pages of the person, in order.
	Pages []GraphPage
	// Refused are permissions that the person unticked.
	Refused []string
	// PageSize of a list; 0: all at once.
	PageSize int
}

// GraphPage is a Facebook Page. An empty Token is "EAA-canary-page-" and the id.
type GraphPage struct{ ID, Name, Token string }

func (p GraphPage) token() string {
	if p.Token != "" {
		return p.Token
	}
	return "EAA-canary-page-" + p.ID
}

const (
	graphShort = "EAA-canary-short"
	graphLong  = "EAA-canary-long"
)

// GraphUser is the id of who logs in, as it is scoped to the app.
const GraphUser = "10220000000000421"

// NewGraphOAuth registers its routes on a mux, each below a version ("/v25.0/…").
func NewGraphOAuth(mux *http.ServeMux, cfg GraphOAuthConfig) *GraphOAuth {
	g := &GraphOAuth{cfg: cfg, codes: map[string]string{}, subscribed: map[string]string{}}
	mux.HandleFunc("GET /{version}/dialog/oauth", g.dialog)
	mux.HandleFunc("POST /{version}/oauth/access_token", g.token)
	mux.HandleFunc("GET /{version}/me", g.proven(g.me))
	mux.HandleFunc("GET /{version}/me/permissions", g.proven(g.permissions))
	mux.HandleFunc("GET /{version}/me/accounts", g.proven(g.accounts))
	mux.HandleFunc("POST /{version}/{page}/subscribed_apps", g.proven(g.subscribe))
	mux.HandleFunc("DELETE /{version}/{page}/subscribed_apps", g.proven(g.unsubscribe))
	return g
}

// Configure changes what it knows from now on.
func (g *GraphOAuth) Configure(change func(*GraphOAuthConfig)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.cfg)
}

// Refuse answers every call of the API with a status; 0 ends that.
func (g *GraphOAuth) Refuse(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = status
}

// Subscribed are the fields that a Page sends; "" if it sends nothing.
func (g *GraphOAuth) Subscribed(page string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.subscribed[page]
}

func (g *GraphOAuth) dialog(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	g.mu.Lock()
	defer g.mu.Unlock()
	if q.Get("client_id") != g.cfg.AppID {
		http.Error(w, "no such app", http.StatusBadRequest)
		return
	}
	g.next++
	code := fmt.Sprintf("code-%d", g.next)
	g.codes[code] = q.Get("redirect_uri")
	consent(w, q, url.Values{"code": {code}}, url.Values{
		"error": {"access_denied"}, "error_code": {"200"}, "error_reason": {"user_denied"}, "error_description": {"Permissions error"},
	})
}

// consent is a page with two links: what is sent back where the owner says yes, and no.
func consent(w http.ResponseWriter, q, yes, no url.Values) {
	link := func(answer url.Values) string {
		answer.Set("state", q.Get("state"))
		return html.EscapeString(q.Get("redirect_uri") + "?" + answer.Encode())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html><html lang="en"><title>Stand-in</title><p><a id="allow" href="%s">Allow</a> <a id="cancel" href="%s">Cancel</a>`, link(yes), link(no))
}

func (g *GraphOAuth) token(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != 0 {
		w.WriteHeader(g.refuse)
		return
	}
	if r.PostFormValue("client_id") != g.cfg.AppID || r.PostFormValue("client_secret") != g.cfg.AppSecret {
		graphError(w, http.StatusBadRequest, 1)
		return
	}
	if r.PostFormValue("grant_type") == "fb_exchange_token" {
		if r.PostFormValue("fb_exchange_token") != graphShort {
			graphError(w, http.StatusBadRequest, 190)
			return
		}
		answer(w, map[string]any{"access_token": graphLong, "token_type": "bearer", "expires_in": 5183944})
		return
	}
	code := r.PostFormValue("code")
	redirect, ok := g.codes[code]
	delete(g.codes, code)
	if !ok || redirect != r.PostFormValue("redirect_uri") {
		graphError(w, http.StatusBadRequest, 100)
		return
	}
	answer(w, map[string]any{"access_token": graphShort, "token_type": "bearer", "expires_in": 5000})
}

// proven runs a call whose token is proven to be the app's.
func (g *GraphOAuth) proven(call func(w http.ResponseWriter, r *http.Request, token string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.refuse != 0 {
			w.WriteHeader(g.refuse)
			return
		}
		token := r.FormValue("access_token")
		if token == "" {
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}
		mac := hmac.New(sha256.New, []byte(g.cfg.AppSecret))
		mac.Write([]byte(token))
		if r.FormValue("appsecret_proof") != hex.EncodeToString(mac.Sum(nil)) {
			graphError(w, http.StatusBadRequest, 100)
			return
		}
		call(w, r, token)
	}
}

func (g *GraphOAuth) page(token string) (GraphPage, bool) {
	for _, p := range g.cfg.Pages {
		if token == p.token() {
			return p, true
		}
	}
	return GraphPage{}, false
}

func (g *GraphOAuth) me(w http.ResponseWriter, _ *http.Request, token string) {
	if token == graphLong {
		answer(w, map[string]any{"id": GraphUser})
		return
	}
	p, ok := g.page(token)
	if !ok {
		graphError(w, http.StatusBadRequest, 190)
		return
	}
	answer(w, map[string]any{"id": p.ID, "name": p.Name})
}

func (g *GraphOAuth) permissions(w http.ResponseWriter, _ *http.Request, token string) {
	if token != graphLong {
		graphError(w, http.StatusBadRequest, 190)
		return
	}
	var data []any
	for _, p := range []string{"public_profile", "pages_messaging", "pages_manage_metadata", "pages_show_list"} {
		status := "granted"
		if slices.Contains(g.cfg.Refused, p) {
			status = "declined"
		}
		data = append(data, map[string]any{"permission": p, "status": status})
	}
	answer(w, map[string]any{"data": data})
}

func (g *GraphOAuth) accounts(w http.ResponseWriter, r *http.Request, token string) {
	if token != graphLong {
		graphError(w, http.StatusBadRequest, 190)
		return
	}
	from, size := 0, len(g.cfg.Pages)
	_, _ = fmt.Sscan(r.FormValue("after"), &from)
	if g.cfg.PageSize > 0 {
		size = g.cfg.PageSize
	}
	data, to := []any{}, min(from+size, len(g.cfg.Pages))
	for _, p := range g.cfg.Pages[from:to] {
		data = append(data, map[string]any{"id": p.ID, "name": p.Name, "access_token": p.token(), "tasks": []string{"MESSAGING", "MODERATE"}})
	}
	paging := map[string]any{"cursors": map[string]any{"before": fmt.Sprint(from), "after": fmt.Sprint(to)}}
	if to < len(g.cfg.Pages) {
		paging["next"] = "https://graph.facebook.com/next-with-the-token"
	}
	answer(w, map[string]any{"data": data, "paging": paging})
}

func (g *GraphOAuth) subscribe(w http.ResponseWriter, r *http.Request, token string) {
	if p, ok := g.page(token); !ok || p.ID != r.PathValue("page") {
		graphError(w, http.StatusBadRequest, 190)
		return
	}
	g.subscribed[r.PathValue("page")] = r.FormValue("subscribed_fields")
	answer(w, map[string]any{"success": true})
}

func (g *GraphOAuth) unsubscribe(w http.ResponseWriter, r *http.Request, token string) {
	if p, ok := g.page(token); !ok || p.ID != r.PathValue("page") {
		graphError(w, http.StatusBadRequest, 190)
		return
	}
	delete(g.subscribed, r.PathValue("page"))
	answer(w, map[string]any{"success": true})
}

func graphError(w http.ResponseWriter, status, code int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"message": "canary: a text that may quote what was sent", "type": "OAuthException", "code": code, "fbtrace_id": "A1",
	}})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
