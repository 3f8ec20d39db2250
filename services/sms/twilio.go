package sms

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what Twilio signs with
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"tributary.dev/libs/channel"
)

// twilio speaks https://www.twilio.com/docs/messaging. The calls of its Go library take no context and drop Retry-After, and
// its validation covers the first value of a parameter alone, at 160 allocations a webhook: both are made by hand.
type twilio struct {
	baseURL string
	http    *http.Client
}

const (
	// twilioLongest text in characters that one call may carry (error 21617).
	twilioLongest = 1600
	// twilioLargest file in bytes: of an MMS, and on WhatsApp
	// (https://www.twilio.com/docs/messaging/guides/accepted-mime-types, https://www.twilio.com/docs/whatsapp/guidance-whatsapp-media-messages).
	twilioLargest, twilioLargestOnWhatsApp = 5 << 20, 16 << 20
)

// signed validates X-Twilio-Signature, the HMAC-SHA1 of the address and of the form's names and values, with and without the
// address's port (https://www.twilio.com/docs/usage/security#validating-requests). All values of a parameter count, or others
// could be slipped in. Of a body that is no form, the address has the hash.
func (t *twilio) signed(r *channel.Request, secret string) bool {
	signature, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Twilio-Signature"))
	if err != nil || r.URL == nil {
		return false
	}
	var params []byte
	if hash := bodyHash(r); hash != "" {
		sum := sha256.Sum256(r.Body)
		if subtle.ConstantTimeCompare([]byte(hash), []byte(hex.EncodeToString(sum[:]))) != 1 {
			return false
		}
	} else {
		form, err := r.Form()
		if err != nil {
			return false
		}
		params = make([]byte, 0, len(r.Body)) // what they are written with takes more
		for _, name := range slices.Sorted(maps.Keys(form)) {
			values := form[name]
			if len(values) > 1 {
				values = slices.Compact(slices.Sorted(slices.Values(values)))
			}
			for _, value := range values {
				params = append(append(params, name...), value...)
			}
		}
	}
	return slices.ContainsFunc(addresses(*r.URL), func(address string) bool {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(address))
		mac.Write(params)
		return hmac.Equal(mac.Sum(nil), signature)
	})
}

// bodyHash is what the address says that the body hashes to.
func bodyHash(r *channel.Request) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get("bodySHA256")
}

// addresses that Twilio may have signed for a request to u: with its port, or its scheme's, and without.
func addresses(u url.URL) []string {
	host, port := u.Host, map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if given := u.Port(); given != "" {
		host, port = strings.TrimSuffix(host, ":"+given), given
	}
	u.Host = host
	bare := u.String()
	u.Host = host + ":" + port
	return []string{bare, u.String()}
}

func (t *twilio) read(r *channel.Request) (webhook, error) {
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch contentType {
	case "application/x-www-form-urlencoded":
	case "application/json":
		if bodyHash(r) == "" || !json.Valid(r.Body) {
			return webhook{}, errors.New("sms: body is not JSON, or not signed as such")
		}
		return webhook{kind: "json", reply: twiML("")}, nil
	default:
		return webhook{}, errors.New("sms: content type is neither JSON nor a form")
	}
	values, err := r.Form()
	if err != nil {
		return webhook{}, errors.New("sms: body is not a form")
	}
	form := twilioForm(values)
	sid := form.first("MessageSid", "SmsSid", "SmsMessageSid")
	word := strings.ToLower(form.first("MessageStatus", "SmsStatus"))
	switch {
	case word == "received" || word == "receiving" || word == "" && form.isMessage():
		m, answer := form.incoming(sid), ""
		if m.asksHelp() {
			answer = r.Settings["help_reply"]
		}
		return webhook{message: m, reply: twiML(answer)}, nil
	case word == "" && !values.Has("AccountSid"): // all that Twilio sends has it
		return webhook{}, errors.New("sms: body is no form of Twilio's")
	case word == "":
		return webhook{kind: "form", reply: twiML("")}, nil
	}
	s, ok := form.status(sid, word)
	if !ok {
		return webhook{kind: "status.other", reply: twiML("")}, nil
	}
	s.ours(r.URL.Query())
	return webhook{status: s, reply: twiML("")}, nil
}

// twiML says a text to the sender; an empty one tells Twilio to say nothing.
func twiML(text string) channel.Reply {
	body := []byte(xml.Header + "<Response></Response>")
	if text != "" {
		var escaped bytes.Buffer
		_ = xml.EscapeText(&escaped, []byte(text)) // a buffer takes everything
		body = []byte(xml.Header + "<Response><Message>" + escaped.String() + "</Message></Response>")
	}
	return channel.Reply{Status: http.StatusOK, ContentType: "text/xml; charset=utf-8", Body: body}
}

func (t *twilio) check(out *channel.Outgoing) error {
	largest := twilioLargest
	if strings.HasPrefix(out.To, whatsApp) {
		largest = twilioLargestOnWhatsApp
	}
	switch {
	case out.Attachment != nil && out.Attachment.Size > int64(largest):
		return reject("too_large", "The file is larger than "+strconv.Itoa(largest>>20)+" MB.")
	case out.Connection.Credentials["account_sid"] == "" || out.Connection.Credentials["auth_token"] == "":
		return noCredentials()
	case utf8.RuneCountInString(out.Text) > twilioLongest:
		return reject("too_long", "The text is longer than 1600 characters.")
	}
	return nil
}

func (t *twilio) send(ctx context.Context, out *channel.Outgoing) (string, error) {
	sid, token := out.Connection.Credentials["account_sid"], out.Connection.Credentials["auth_token"]
	form := url.Values{"To": {out.To}, "From": {sender(out.Connection.ExternalID, out.To)}}
	if out.Text != "" {
		form.Set("Body", out.Text)
	}
	if out.Attachment != nil {
		form.Set("MediaUrl", out.Attachment.URL)
	}
	if out.CallbackURL != "" {
		form.Set("StatusCallback", out.CallbackURL)
	}
	address := t.baseURL + "/2010-04-01/Accounts/" + url.PathEscape(sid) + "/Messages.json"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", &channel.Error{Class: channel.ClassRetry, Code: "request", NotTaken: true}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(sid, token)
	response, err := t.http.Do(request)
	if err != nil {
		return "", channel.NetworkError(err)
	}
	defer response.Body.Close()
	var answer struct {
		SID  string `json:"sid"`
		Code int    `json:"code"`
	}
	readErr := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer)
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		return "", twilioRefusal(response, answer.Code)
	case readErr != nil || !isSID(answer.SID): // a 2xx that is not Twilio's: nobody can say what happened
		return "", &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return answer.SID, nil
}

// mediaHeader carries the account's credentials to Twilio's own hosts over TLS, or to its stand-in's.
func (t *twilio) mediaHeader(conn *channel.Connection, address *url.URL) (http.Header, bool) {
	base, err := url.Parse(t.baseURL)
	standIn := err == nil && address.Host == base.Host && address.Scheme == base.Scheme
	own := address.Scheme == "https" && strings.HasSuffix(strings.ToLower(address.Hostname()), ".twilio.com")
	if !standIn && !own {
		return nil, false
	}
	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(conn.Credentials["account_sid"], conn.Credentials["auth_token"])
	return request.Header, true
}

// twilioForm are a webhook's parameters.
type twilioForm url.Values

// get a parameter, made valid UTF-8 without NUL.
func (f twilioForm) get(name string) string { return clean(url.Values(f).Get(name)) }

func (f twilioForm) first(names ...string) string {
	for _, name := range names {
		if v := f.get(name); v != "" {
			return v
		}
	}
	return ""
}

// isMessage tells a message, whatever it lacks, from calls and from events of other products.
func (f twilioForm) isMessage() bool {
	if f.first("CallSid", "EventType") != "" {
		return false
	}
	return f.first("MessageSid", "SmsSid", "SmsMessageSid", "Body", "NumMedia", "From") != ""
}

// incoming message (https://www.twilio.com/docs/messaging/guides/webhook-request).
func (f twilioForm) incoming(sid string) *incoming {
	m := &incoming{
		sid: sid, from: f.get("From"), body: f.get("Body"),
		optOut: strings.ToUpper(f.get("OptOutType")), profileName: f.get("ProfileName"),
		payload:   f.first("ButtonPayload", "ListId"),
		technical: map[string]string{},
	}
	if reply := f.get("OriginalRepliedMessageSid"); isSID(reply) {
		m.replyTo = reply
	}
	if m.body == "" { // on WhatsApp: a button or a list's entry, or a location
		m.body = f.first("ButtonText", "ListTitle")
	}
	if m.body == "" && f.get("Latitude") != "" {
		m.body = place(f.first("Label", "Address"), f.get("Latitude"), f.get("Longitude"))
	}
	const most = 100 // ten times what a message may carry
	n, _ := strconv.Atoi(f.get("NumMedia"))
	for i := range min(n, most) {
		item := strconv.Itoa(i)
		contentType := f.get("MediaContentType" + item)
		if address := f.get("MediaUrl" + item); address != "" {
			m.media = append(m.media, media{ref: item, kind: attachmentKind(contentType), url: address, contentType: contentType})
		}
	}
	for name, key := range map[string]string{"FromCity": "city", "FromState": "state", "FromZip": "zip", "FromCountry": "country"} {
		if v := f.get(name); v != "" {
			m.technical[key] = v
		}
	}
	return m
}

// ours are the ids in a callback's query, which Twilio signs.
func (s *status) ours(query url.Values) {
	if id, err := uuid.Parse(query.Get("m")); err == nil {
		s.messageID, s.part, s.attempt = id.String(), number(query.Get("p")), number(query.Get("a"))
	}
	if key, err := uuid.Parse(query.Get("k")); err == nil {
		s.conversation = key.String()
	}
}

// status of a message that went out (https://www.twilio.com/docs/messaging/guides/track-outbound-message-status).
func (f twilioForm) status(sid, word string) (*status, bool) {
	s := &status{sid: sid, to: f.get("To"), word: word}
	switch word {
	case "queued", "accepted", "scheduled", "sending", "sent":
		s.status = channel.StatusSent
	case "delivered":
		s.status = channel.StatusDelivered
	case "read":
		s.status = channel.StatusRead
	case "failed", "undelivered", "canceled":
		s.status = channel.StatusFailed
		code, _ := strconv.Atoi(f.get("ErrorCode"))
		s.class, s.code = twilioClass(code), word
		if code != 0 {
			s.code = strconv.Itoa(code)
		}
	default:
		return nil, false
	}
	return s, true
}

// twilioClass sorts Twilio's error codes (https://www.twilio.com/docs/api/errors). What is not named is
// refused for good.
func twilioClass(code int) channel.Class {
	switch code {
	case 20003: // authentication
		return channel.ClassReauthorise
	case 21610: // the person sent STOP
		return channel.ClassOptedOut
	case 63016: // WhatsApp's window of 24 hours
		return channel.ClassWindowClosed
	case 20429, 14107, 21611, 30001, 30008, 30017, 30022, 63010, 63012, 63018, 63038: // rates, full queues, congestion, faults of WhatsApp's
		return channel.ClassRetry
	}
	return channel.ClassReject
}

func twilioRefusal(response *http.Response, code int) *channel.Error {
	if response.StatusCode == http.StatusUnauthorized {
		return refused(response, channel.ClassReauthorise, twilioCode(code), twilioSentence(20003))
	}
	return refused(response, twilioClass(code), twilioCode(code), twilioSentence(code))
}

func twilioCode(code int) string {
	if code == 0 {
		return ""
	}
	return strconv.Itoa(code)
}

func twilioSentence(code int) string {
	switch code {
	case 20003:
		return "Twilio no longer accepts this connection's credentials: connect the number again."
	case 21211, 21614, 21217:
		return "Twilio says that the number can't receive text messages."
	case 21408, 21612:
		return "This connection's number may not send to that country or network."
	case 21606, 21659, 21660:
		return "This connection's number can't send text messages from the Twilio account."
	case 21610:
		return "The person has opted out."
	case 21617:
		return "The text is longer than 1600 characters."
	case 63016:
		return windowClosed
	}
	return ""
}
