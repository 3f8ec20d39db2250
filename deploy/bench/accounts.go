package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with HMAC-SHA1
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.dev/deploy/providers"
)

// maker makes requests, each with a message of its own. For one goroutine.
type maker interface {
	// next is good until the next call.
	next(now time.Time) []byte
	// made is how many there were.
	made() int
	// size of a body, about.
	size() int
}

// account is a channel's, which webhooks are sent to.
type account struct {
	channel string
	// provider that has it, by its name; empty: the one that every world has.
	provider string
	// check that a bare handler makes of its webhooks, and whether it writes them as they came.
	check string
	raw   bool
	// long: its people write at length.
	long  bool
	floor float64
}

var (
	// slackTeam is what every world has.
	slackTeam = account{channel: "slack", check: "slack"}
	// others are the accounts of the other channels.
	others = []account{
		{channel: "sms", provider: "Twilio", check: "twilio", floor: .7},
		{channel: "messenger", provider: "Messenger", check: "meta", floor: .7},
		{channel: "telegram", provider: "Telegram", check: "telegram", floor: .7},
		{channel: "shopify", provider: "Shopify", check: "shopify", floor: .7},
		{channel: "email", provider: "SMTP", check: "mail", raw: true, long: true, floor: .4},
	}
)

// connect makes the account's connection in a world, and gives what makes its webhooks and the secret that signs them.
func (a account) connect(ctx context.Context, w *world) (made func(people func(int) int) maker, signedWith string, err error) {
	if a.provider == "" {
		return func(people func(int) int) maker { return newWebhooks(0, people) }, secret, nil
	}
	p := w.provider(a.provider)
	if err := p.Connect(ctx, w.api); err != nil {
		return nil, "", err
	}
	says := p.Says
	if a.long {
		says = p.(providers.Correspondent).SaysAtLength
	}
	return func(people func(int) int) maker {
		return &plainMaker{host: strings.TrimPrefix(w.URL, "http://"), says: says, people: people}
	}, p.Secret(), nil
}

// checks of a bare handler, by their names: the least that tells a provider's webhook from a stranger's.
var checks = map[string]func(secret string, r *http.Request, body []byte) bool{
	"slack": func(secret string, r *http.Request, body []byte) bool {
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Slack-Signature"), "v0="))
		sum := sumOf(sha256.New, secret, []byte("v0:"+r.Header.Get("X-Slack-Request-Timestamp")+":"), body)
		return err == nil && hmac.Equal(sum, given)
	},
	"meta": func(secret string, r *http.Request, body []byte) bool {
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		return err == nil && hmac.Equal(sumOf(sha256.New, secret, body), given)
	},
	"telegram": func(secret string, r *http.Request, _ []byte) bool {
		return subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Telegram-Bot-Api-Secret-Token")), []byte(secret)) == 1
	},
	"shopify": func(secret string, r *http.Request, body []byte) bool {
		given, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Shopify-Hmac-SHA256"))
		return err == nil && hmac.Equal(sumOf(sha256.New, secret, body), given)
	},
	"mail": func(secret string, r *http.Request, body []byte) bool {
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Tributary-Signature"), "sha256="))
		sum := sumOf(sha256.New, secret, []byte(r.Header.Get("X-Tributary-Timestamp")+"."), body)
		return err == nil && hmac.Equal(sum, given)
	},
	"twilio": func(secret string, r *http.Request, body []byte) bool {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return false
		}
		names := make([]string, 0, len(form))
		for name := range form {
			names = append(names, name)
		}
		slices.Sort(names)
		signed := []byte("http://" + r.Host + r.URL.RequestURI())
		for _, name := range names {
			signed = append(append(signed, name...), form.Get(name)...)
		}
		given, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Twilio-Signature"))
		return err == nil && hmac.Equal(sumOf(sha1.New, secret, signed), given)
	},
}

func sumOf(hash func() hash.Hash, secret string, parts ...[]byte) []byte {
	mac := hmac.New(hash, []byte(secret))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// plainMaker makes requests of what a stand-in makes.
type plainMaker struct {
	host   string
	says   func(person, n int, text string, now time.Time) providers.Webhook
	people func(int) int

	n, last int
	request bytes.Buffer
}

func (m *plainMaker) next(now time.Time) []byte {
	hook := m.says(m.people(m.n), m.n, "Is my parcel on its way? It was to come on Monday, and the shop says it has left.", now)
	m.n++
	m.last = len(hook.Body)
	m.request.Reset()
	m.request.WriteString("POST " + hook.Path + " HTTP/1.1\r\nHost: " + m.host + "\r\nContent-Length: " + strconv.Itoa(len(hook.Body)) + "\r\n")
	_ = hook.Header.Write(&m.request) // a buffer takes everything
	m.request.WriteString("\r\n")
	m.request.Write(hook.Body)
	return m.request.Bytes()
}

func (m *plainMaker) made() int { return m.n }
func (m *plainMaker) size() int { return m.last }
