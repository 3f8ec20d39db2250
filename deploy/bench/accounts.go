package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with HMAC-SHA1
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
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
	// connect makes it in a world, and gives what makes its webhooks.
	connect func(ctx context.Context, w *world) (func(people func(int) int) maker, error)
	// check that a bare handler makes of them, and whether it writes them as they came.
	check string
	raw   bool
	floor float64
}

// accounts of the channels but Slack's.
func accounts() []account { return []account{smsNumber} }

// checks of a bare handler, by their names: the least that tells a provider's webhook from a stranger's.
var checks = map[string]func(r *http.Request, body []byte) bool{
	"slack": func(r *http.Request, body []byte) bool {
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Slack-Signature"), "v0="))
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte("v0:" + r.Header.Get("X-Slack-Request-Timestamp") + ":"))
		mac.Write(body)
		return err == nil && hmac.Equal(mac.Sum(nil), given)
	},
	"twilio": func(r *http.Request, body []byte) bool {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return false
		}
		names := make([]string, 0, len(form))
		for name := range form {
			names = append(names, name)
		}
		slices.Sort(names)
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte("http://" + r.Host + r.URL.RequestURI()))
		for _, name := range names {
			mac.Write([]byte(name + form.Get(name)))
		}
		given, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Twilio-Signature"))
		return err == nil && hmac.Equal(mac.Sum(nil), given)
	},
}

// slackTeam is what every world has.
var slackTeam = account{channel: "slack", check: "slack", floor: .7,
	connect: func(context.Context, *world) (func(func(int) int) maker, error) {
		return func(people func(int) int) maker { return newWebhooks(0, people) }, nil
	}}

const twilioAccount = "AC00000000000000000000000000000001"

var smsNumber = account{channel: "sms", check: "twilio", floor: .7,
	connect: func(ctx context.Context, w *world) (func(func(int) int) maker, error) {
		const number = "+41445550100"
		made, err := w.api.Call(ctx, http.MethodPost, "/v1/connections", mesh.Object{
			"channel": "sms", "name": "Bench", "external_id": number,
			"credentials": mesh.Object{"account_sid": twilioAccount, "auth_token": secret}}, http.StatusCreated)
		path := "/webhooks/sms/" + made.Text("id")
		return func(people func(int) int) maker {
			return &plainMaker{host: strings.TrimPrefix(w.URL, "http://"), path: path, people: people, body: func(n, person int, _ time.Time) ([]byte, http.Header) {
				form := standin.TwilioInbound(twilioAccount, fmt.Sprintf("SM%032x", n), "+4179"+fmt.Sprintf("%07d", person), number,
					"Is my parcel on its way? It was to come on Monday, and the shop says it has left.")
				return []byte(form.Encode()), standin.TwilioHeader(secret, w.URL+path, form)
			}}
		}, err
	}}

// plainMaker makes requests of what a stand-in makes.
type plainMaker struct {
	host, path string
	people     func(int) int
	// body is the nth webhook, a person's, with its header.
	body func(n, person int, now time.Time) ([]byte, http.Header)

	n, last int
	request bytes.Buffer
}

func (m *plainMaker) next(now time.Time) []byte {
	body, header := m.body(m.n, m.people(m.n), now)
	m.n++
	m.last = len(body)
	m.request.Reset()
	m.request.WriteString("POST " + m.path + " HTTP/1.1\r\nHost: " + m.host + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	_ = header.Write(&m.request) // a buffer takes everything
	m.request.WriteString("\r\n")
	m.request.Write(body)
	return m.request.Bytes()
}

func (m *plainMaker) made() int { return m.n }
func (m *plainMaker) size() int { return m.last }
