package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"time"

	"tributary.dev/libs/channel"
)

// The Slack app and team that measures connect.
const (
	team, app, secret = "T0BENCH", "A0BENCH", "8f742231b10e8888abcd99yyyzzz85a5"
	webhookPath       = "/webhooks/slack/bench"
)

// webhookBody is what Slack sends for a direct message that a person typed: 1 KB, the message once as text
// and once as blocks. The numbers are placeholders.
const webhookBody = `{"token":"z26uFbvR1xHJEdHE1OQiO6t8","team_id":"` + team + `","context_team_id":"` + team + `","context_enterprise_id":null,` +
	`"api_app_id":"` + app + `","event":{"type":"message","user":"U0000000000","ts":"1000000000.000000",` +
	`"client_msg_id":"6d2d7bb9-c4f0-4e9b-9d3e-0a8f8d1c0f11","text":"Is my parcel on its way? It was to come on Monday, and the shop says it has left.",` +
	`"team":"` + team + `","blocks":[{"type":"rich_text","block_id":"q+sVy","elements":[{"type":"rich_text_section","elements":[{"type":"text",` +
	`"text":"Is my parcel on its way? It was to come on Monday, and the shop says it has left."}]}]}],` +
	`"channel":"D0000000000","event_ts":"1000000000.000000","channel_type":"im"},"type":"event_callback","event_id":"Ev000000000000","event_time":1000000000,` +
	`"authorizations":[{"enterprise_id":null,"team_id":"` + team + `","user_id":"U0BENCHBOT","is_bot":true,"is_enterprise_install":false}],` +
	`"is_ext_shared_channel":false,"event_context":"4-eyJldCI6Im1lc3NhZ2UifQ"}`

// webhooks makes requests of Slack's, signed, each with a message of its own, as cheaply as can be: what
// measures shares the machine with what is measured. For one goroutine.
type webhooks struct {
	// person gives who writes the nth message.
	person func(n int) int

	n       int
	request []byte // the last one made
	body    []byte // of it
	places  struct{ user, channel, eventID, eventTime, stamp, signature int }
	times   []int // of ts and event_ts
	mac     hash.Hash
	sum     []byte
}

// newWebhooks begins with the message of number first; two makers whose numbers differ make different messages.
func newWebhooks(first int, person func(n int) int) *webhooks {
	w := &webhooks{person: person, n: first, mac: hmac.New(sha256.New, []byte(secret))}
	head := "POST " + webhookPath + " HTTP/1.1\r\nHost: bench\r\nUser-Agent: Slackbot 1.0 (+https://api.slack.com/robots)\r\n" +
		"Content-Type: application/json\r\nAccept: */*\r\nAccept-Encoding: gzip,deflate\r\n" +
		"X-Slack-Request-Timestamp: 0000000000\r\nX-Slack-Signature: v0=" + fmt.Sprintf("%064d", 0) + "\r\n" +
		"Content-Length: " + strconv.Itoa(len(webhookBody)) + "\r\n\r\n"
	w.request = []byte(head + webhookBody)
	w.body = w.request[len(head):]
	at := func(in []byte, mark string) int { return bytes.Index(in, []byte(mark)) + len(mark) }
	w.places.stamp, w.places.signature = at(w.request, "Timestamp: "), at(w.request, "v0=")
	w.places.user, w.places.channel = at(w.body, `"user":"U`), at(w.body, `"channel":"D`)
	w.places.eventID, w.places.eventTime = at(w.body, `"event_id":"Ev`), at(w.body, `"event_time":`)
	w.times = []int{at(w.body, `"ts":"`), at(w.body, `"event_ts":"`)}
	return w
}

// next makes another request; it is good until the next call.
func (w *webhooks) next(now time.Time) []byte {
	n := w.n
	w.n++
	person := w.person(n)
	seconds := int(now.Unix())
	digits(w.body[w.places.user:][:10], person)
	digits(w.body[w.places.channel:][:10], person)
	digits(w.body[w.places.eventID:][:12], n)
	digits(w.body[w.places.eventTime:][:10], seconds)
	for _, at := range w.times {
		digits(w.body[at:][:10], seconds)
		digits(w.body[at+11:][:6], n)
	}
	digits(w.request[w.places.stamp:][:10], seconds)
	w.mac.Reset()
	w.mac.Write([]byte("v0:"))
	w.mac.Write(w.request[w.places.stamp:][:10])
	w.mac.Write([]byte(":"))
	w.mac.Write(w.body)
	w.sum = w.mac.Sum(w.sum[:0])
	hex.Encode(w.request[w.places.signature:][:2*sha256.Size], w.sum)
	return w.request
}

// messageID is what the mesh calls the message of the last request made, on a connection.
func (w *webhooks) messageID(connection string) string {
	stamp := string(w.body[w.times[0]:][:17])
	seconds, _ := strconv.ParseInt(stamp[:10], 10, 64) // digits wrote them
	micros, _ := strconv.ParseInt(stamp[11:], 10, 64)
	channelID := "D" + string(w.body[w.places.channel:][:10])
	return channel.MessageID(connection, channelID+":"+stamp, time.UnixMicro(seconds*1e6+micros))
}

// made is how many there were, and where the next one begins.
func (w *webhooks) made() int { return w.n }

func (w *webhooks) size() int { return len(webhookBody) }

// digits writes the last digits of n that there is room for.
func digits(into []byte, n int) {
	for i := len(into) - 1; i >= 0; i-- {
		into[i] = byte('0' + n%10)
		n /= 10
	}
}
