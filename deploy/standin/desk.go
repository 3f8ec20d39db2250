package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
	"tributary.dev/libs/channel/standin"
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

	// Message in what was taken, from 0, that is Status now.
	Message int    `json:"message"`
	Status  string `json:"status"`

	// Calls that fail from now on: refused with a status, which may ask for a pause in seconds, answered late, or cut off
	// after they were carried out. 0: none.
	Calls      int  `json:"calls"`
	Refuse     int  `json:"refuse"`
	RetryAfter int  `json:"retry_after"`
	DelayMS    int  `json:"delay_ms"`
	HangUp     bool `json:"hang_up"`

	// Erase what was given too, where who connected withdraws.
	Erase bool `json:"erase"`
}

func (d *desk) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connect", d.ordered(d.connect))
	mux.HandleFunc("POST /say", d.ordered(d.say))
	mux.HandleFunc("POST /tell", d.ordered(d.tell))
	mux.HandleFunc("POST /fail", d.ordered(d.fail))
	mux.HandleFunc("POST /withdraw", d.ordered(d.withdraw))
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
		read := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
		read.DisallowUnknownFields()
		if err := read.Decode(&o); err != nil {
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
	return d.send(ctx, hook)
}

// tell what became of a message.
func (d *desk) tell(ctx context.Context, p providers.Provider, o order) (int, any) {
	teller, ok := p.(providers.Teller)
	if !ok {
		return http.StatusConflict, problem(p.Name() + " never says what became of a message")
	}
	if o.Message < 0 || o.Message >= len(p.Taken()) {
		return http.StatusNotFound, problem(fmt.Sprintf("%s has taken %d messages", p.Name(), len(p.Taken())))
	}
	hook, err := teller.Tells(o.Message, o.Status, time.Now())
	if err != nil {
		return http.StatusConflict, problem(err.Error())
	}
	return d.send(ctx, hook)
}

// fail makes the provider's next calls fail.
func (d *desk) fail(_ context.Context, p providers.Provider, o order) (int, any) {
	failing, ok := p.(interface{ Fail(f standin.Fault) })
	if !ok {
		return http.StatusConflict, problem("the stand-in of " + p.Name() + " can't be made to fail")
	}
	const longest = 10 * time.Minute
	delay := time.Duration(o.DelayMS) * time.Millisecond
	if o.Refuse != 0 && (o.Refuse < 400 || o.Refuse > 599) || o.Calls < 0 || o.RetryAfter < 0 || delay < 0 || delay > longest {
		return http.StatusBadRequest, problem("refuse is a status of 400 to 599, the others are not negative, and delay_ms is ten minutes at most")
	}
	failure := standin.Failure{Refuse: o.Refuse, Header: http.Header{}, Delay: delay, HangUp: o.HangUp}
	if o.RetryAfter > 0 {
		failure.Header.Set("Retry-After", strconv.Itoa(o.RetryAfter))
	}
	failing.Fail(func(n int, _ string) standin.Failure {
		if n > o.Calls {
			return standin.Failure{}
		}
		return failure
	})
	return http.StatusOK, map[string]int{"calls_that_fail": o.Calls}
}

// send a webhook to the mesh.
func (d *desk) send(ctx context.Context, hook providers.Webhook) (int, any) {
	status, err := d.api.Webhook(ctx, hook.Path, hook.Header, hook.Body)
	if err != nil {
		return http.StatusBadGateway, problem(err.Error())
	}
	return http.StatusOK, map[string]any{"webhook": hook.Path, "answered": status}
}

// withdraw lets who connected the account take that back at the provider.
func (d *desk) withdraw(ctx context.Context, p providers.Provider, o order) (int, any) {
	withdrawer, ok := p.(providers.Withdrawer)
	if !ok {
		return http.StatusConflict, problem("it tells of no such thing")
	}
	hook := withdrawer.Withdraws(o.Erase, time.Now())
	status, said, err := d.api.Send(ctx, http.MethodPost, hook.Path, hook.Header, bytes.NewReader(hook.Body))
	if err != nil {
		return http.StatusBadGateway, problem(err.Error())
	}
	return http.StatusOK, map[string]any{"webhook": hook.Path, "answered": status, "said": string(said)}
}

func problem(detail string) any { return map[string]string{"detail": detail} }

func answer(w http.ResponseWriter, status int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what) // a caller that left is the caller's affair
}
