package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
)

// desk is where the stand-ins are told what to do.
type desk struct {
	all []providers.Provider
	api *mesh.Client

	mu sync.Mutex
	//bound:exempt one a provider
	connected map[string]bool
	said      int
}

type order struct {
	Provider string `json:"provider"`
	Key      string `json:"key"`
	Person   int    `json:"person"`
	Text     string `json:"text"`
}

func (d *desk) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connect", d.ordered(d.connect))
	mux.HandleFunc("POST /say", d.ordered(d.say))
	mux.HandleFunc("GET /taken", func(w http.ResponseWriter, _ *http.Request) {
		taken := map[string][]providers.Message{}
		for _, p := range d.all {
			taken[p.Name()] = append([]providers.Message{}, p.Taken()...)
		}
		answer(w, http.StatusOK, taken)
	})
	return mux
}

// ordered carries an order out for the provider that it names.
func (d *desk) ordered(do func(ctx context.Context, p providers.Provider, o order) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o order
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
			answer(w, http.StatusBadRequest, problem("the body is no order: "+err.Error()))
			return
		}
		i := slices.IndexFunc(d.all, func(p providers.Provider) bool { return strings.EqualFold(p.Name(), o.Provider) })
		if i < 0 {
			answer(w, http.StatusNotFound, problem(fmt.Sprintf("there is no provider %q", o.Provider)))
			return
		}
		d.mu.Lock() // one order at a time
		defer d.mu.Unlock()
		status, said := do(r.Context(), d.all[i], o)
		answer(w, status, said)
	}
}

func (d *desk) connect(ctx context.Context, p providers.Provider, o order) (int, any) {
	if o.Key != "" {
		d.api.Key = o.Key
	}
	if err := p.Connect(ctx, d.api); err != nil {
		return http.StatusBadGateway, problem(err.Error())
	}
	d.connected[p.Name()] = true
	return http.StatusOK, map[string]string{"connected": p.Name()}
}

func (d *desk) say(ctx context.Context, p providers.Provider, o order) (int, any) {
	if !d.connected[p.Name()] {
		return http.StatusConflict, problem("connect it first")
	}
	d.said++
	hook := p.Says(o.Person, d.said, o.Text, time.Now())
	if shop, ok := p.(providers.Shop); ok {
		shop.Keep(hook)
	}
	status, err := d.api.Webhook(ctx, hook.Path, hook.Header, hook.Body)
	if err != nil {
		return http.StatusBadGateway, problem(err.Error())
	}
	return http.StatusOK, map[string]any{"webhook": hook.Path, "answered": status}
}

func problem(detail string) any { return map[string]string{"detail": detail} }

func answer(w http.ResponseWriter, status int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what) // a caller that left is the caller's affair
}
