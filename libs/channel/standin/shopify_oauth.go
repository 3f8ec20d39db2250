package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// ShopifyOAuth stands in for the one shop's installing of an app: the page that asks, offline tokens that expire,
// webhooks, who the shop is, and uninstalling.
type ShopifyOAuth struct {
	mu  sync.Mutex
	cfg ShopifyOAuthConfig
	//bound:exempt a stand-in's
	codes    map[string]string
	tokens   map[string]bool // alive
	refresh  map[string]bool
	webhooks []ShopifyWebhook
	next     int
	refuse   int
	// registered counts webhooks that were made.
	registered  int
	uninstalled bool
}

// ShopifyOAuthConfig is the app that it knows, and its shop.
type ShopifyOAuthConfig struct {
	ClientID, ClientSecret, Shop string
	// Granted scopes; empty: those asked for.
	Granted string
	// Lasting: tokens do not expire.
	Lasting bool
}

// ShopifyWebhook is one that an app has registered.
type ShopifyWebhook struct {
	ID      int64  `json:"id"`
	Topic   string `json:"topic"`
	Address string `json:"address"`
	Format  string `json:"format"`
}

// NewShopifyOAuth registers its routes on a mux, below /admin/.
func NewShopifyOAuth(mux *http.ServeMux, cfg ShopifyOAuthConfig) *ShopifyOAuth {
	s := &ShopifyOAuth{cfg: cfg, codes: map[string]string{}, tokens: map[string]bool{}, refresh: map[string]bool{}}
	mux.HandleFunc("GET /admin/oauth/authorize", s.authorise)
	mux.HandleFunc("POST /admin/oauth/access_token", s.token)
	mux.HandleFunc("GET /admin/api/{version}/shop.json", s.authorised(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"shop": map[string]any{"id": 1, "name": "Acme", "myshopify_domain": s.cfg.Shop}})
	}))
	mux.HandleFunc("GET /admin/api/{version}/webhooks.json", s.authorised(s.list))
	mux.HandleFunc("POST /admin/api/{version}/webhooks.json", s.authorised(s.register))
	mux.HandleFunc("DELETE /admin/api_permissions/current.json", s.authorised(func(w http.ResponseWriter, _ *http.Request) {
		s.uninstalled, s.webhooks = true, nil
		clear(s.tokens)
		clear(s.refresh)
		answer(w, map[string]any{})
	}))
	return s
}

// Configure changes what it knows from now on.
func (s *ShopifyOAuth) Configure(change func(*ShopifyOAuthConfig)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.cfg)
}

// Refuse answers every call of the API with a status; 0 ends that.
func (s *ShopifyOAuth) Refuse(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

// Webhooks that are registered now.
func (s *ShopifyOAuth) Webhooks() []ShopifyWebhook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.webhooks)
}

// Registered counts the webhooks that were ever made.
func (s *ShopifyOAuth) Registered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered
}

// Uninstalled tells whether the app was uninstalled.
func (s *ShopifyOAuth) Uninstalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uninstalled
}

// Alive tells whether an access token works.
func (s *ShopifyOAuth) Alive(token string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[token]
}

// Allow has an access token be good that was made elsewhere.
func (s *ShopifyOAuth) Allow(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = true
}

// Expire ends the access tokens, as time does; what refreshes them stays.
func (s *ShopifyOAuth) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

func (s *ShopifyOAuth) authorise(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	code := fmt.Sprintf("code%d", s.next)
	s.codes[code] = q.Get("scope")
	answer := url.Values{
		"code": {code}, "host": {"YWNtZQ"}, "shop": {s.cfg.Shop}, "timestamp": {"1764300000"}, "state": {q.Get("state")},
	}
	answer.Set("hmac", ShopifyQueryHMAC(s.cfg.ClientSecret, answer))
	no := url.Values{"shop": {s.cfg.Shop}, "error": {"access_denied"}, "state": {q.Get("state")}}
	no.Set("hmac", ShopifyQueryHMAC(s.cfg.ClientSecret, no))
	consent(w, q, answer, no)
}

// ShopifyQueryHMAC signs a query as Shopify does: its parameters but hmac, sorted, name=value joined by "&".
func ShopifyQueryHMAC(secret string, query url.Values) string {
	var pairs []string
	for name := range query {
		if name != "hmac" {
			pairs = append(pairs, name+"="+query.Get(name))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.Join(pairs, "&")))
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *ShopifyOAuth) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ask map[string]string
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || s.refuse != 0 {
		w.WriteHeader(max(s.refuse, http.StatusBadRequest))
		return
	}
	refused := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": code, "error_description": "canary"})
	}
	if ask["client_id"] != s.cfg.ClientID || ask["client_secret"] != s.cfg.ClientSecret {
		refused(http.StatusUnauthorized, "invalid_client")
		return
	}
	scope := s.cfg.Granted
	if ask["grant_type"] == "refresh_token" {
		if !s.refresh[ask["refresh_token"]] {
			refused(http.StatusBadRequest, "invalid_grant")
			return
		}
		delete(s.refresh, ask["refresh_token"])
	} else {
		asked, ok := s.codes[ask["code"]]
		delete(s.codes, ask["code"])
		if !ok {
			refused(http.StatusBadRequest, "invalid_request")
			return
		}
		if scope == "" {
			scope = asked
		}
	}
	s.next++
	access := fmt.Sprintf("shpat_canary%d", s.next)
	s.tokens[access] = true
	granted := map[string]any{"access_token": access, "scope": scope}
	if ask["expiring"] == "1" && !s.cfg.Lasting || ask["grant_type"] != "" {
		refresh := fmt.Sprintf("shprt_canary%d", s.next)
		s.refresh[refresh] = true
		granted["expires_in"], granted["refresh_token"], granted["refresh_token_expires_in"] = 3600, refresh, 7776000
	}
	answer(w, granted)
}

func (s *ShopifyOAuth) authorised(call http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.refuse != 0:
			w.WriteHeader(s.refuse)
		case !s.tokens[r.Header.Get("X-Shopify-Access-Token")]:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":"[API] Invalid API key or access token"}`))
		default:
			call(w, r)
		}
	}
}

func (s *ShopifyOAuth) list(w http.ResponseWriter, r *http.Request) {
	found := []ShopifyWebhook{}
	for _, hook := range s.webhooks {
		if address := r.URL.Query().Get("address"); address == "" || address == hook.Address {
			found = append(found, hook)
		}
	}
	answer(w, map[string]any{"webhooks": found})
}

func (s *ShopifyOAuth) register(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Webhook ShopifyWebhook }
	if json.NewDecoder(r.Body).Decode(&ask) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if slices.ContainsFunc(s.webhooks, func(h ShopifyWebhook) bool { return h.Topic == ask.Webhook.Topic && h.Address == ask.Webhook.Address }) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"errors":{"address":["for this topic has already been taken"]}}`))
		return
	}
	s.registered++
	ask.Webhook.ID = int64(s.registered)
	s.webhooks = append(s.webhooks, ask.Webhook)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"webhook": ask.Webhook})
}
