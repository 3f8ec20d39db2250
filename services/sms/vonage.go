package sms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"tributary.dev/libs/channel"
)

// vonage speaks https://developer.vonage.com/en/api/messages, version 1, with the keys of an application.
type vonage struct {
	baseURL string
	http    *http.Client
	now     func() time.Time
}

const (
	// vonageLongest text in characters that one call may carry: of a text message, and on WhatsApp.
	vonageLongest, vonageLongestOnWhatsApp = 1000, 4096

	// vonageRetries is how long Vonage repeats a webhook that was not answered 2xx, which may be with the signature
	// of its first time; vonageSkew is how far its clock may be ahead.
	vonageRetries, vonageSkew = 24*time.Hour + vonageSkew, 5 * time.Minute
)

// vonageClaims of a webhook's token (https://developer.vonage.com/en/getting-started/concepts/webhooks).
type vonageClaims struct {
	jwt.RegisteredClaims
	PayloadHash string `json:"payload_hash"`
}

// signed validates the token in Authorization, and that it is of this body: a token alone would let whoever saw one
// send what they like. No other algorithm than HS256 is taken, so neither "none" nor a key of another kind.
func (v *vonage) signed(r *channel.Request, secret string) bool {
	token, ok := bearer(r)
	if !ok {
		return false
	}
	var claims vonageClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithoutClaimsValidation())
	if _, err := parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return []byte(secret), nil }); err != nil {
		return false
	}
	sum := sha256.Sum256(r.Body)
	want := hex.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(strings.ToLower(claims.PayloadHash)), []byte(want)) == 1 && v.fresh(r, claims)
}

// fresh tells whether a token was made lately, and is still good, by one of the two clocks.
func (v *vonage) fresh(r *channel.Request, claims vonageClaims) bool {
	if claims.IssuedAt == nil || !r.SignedWithin(claims.IssuedAt.Time, vonageRetries) {
		return false
	}
	return slices.ContainsFunc([]time.Time{r.ReceivedAt, r.LocalTime}, func(now time.Time) bool {
		clock := jwt.WithTimeFunc(func() time.Time { return now })
		return jwt.NewValidator(jwt.WithIssuedAt(), jwt.WithLeeway(vonageSkew), clock).Validate(claims) == nil
	})
}

func bearer(r *channel.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// signedAt is when the token of a verified request was made.
func (v *vonage) signedAt(r *channel.Request) time.Time {
	var claims vonageClaims
	token, _ := bearer(r)
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.IssuedAt == nil {
		return time.Time{}
	}
	return claims.IssuedAt.UTC()
}

func (v *vonage) read(r *channel.Request) (webhook, error) {
	if !json.Valid(r.Body) {
		return webhook{}, errors.New("sms: body is not JSON")
	}
	hook := webhook{signedAt: v.signedAt(r)}
	var body vonageBody
	_ = json.Unmarshal(r.Body, &body) // what is no object has no fields
	if body.text("message_uuid") == "" {
		hook.kind = "json" // the SMS API's, which knows no message_uuid, or another product's
		return hook, nil
	}
	kind := body.text("message_type")
	switch word := body.text("status"); {
	case !slices.Contains([]string{"sms", "mms", "whatsapp"}, body.text("channel")):
		hook.kind = "channel.other"
	case word != "":
		if hook.status = body.status(word); hook.status == nil {
			hook.kind = "status.other"
		}
	case kind == "reaction":
		if hook.reaction = body.reaction(); hook.reaction.emoji == "" {
			hook.reaction, hook.kind = nil, "reaction.unnamed" // taken back without a word which
		}
	default:
		var known bool
		if hook.message, known = body.incoming(kind); !known {
			hook.kind = "message.other"
		}
	}
	return hook, nil
}

func (v *vonage) check(out *channel.Outgoing) error {
	credentials := out.Connection.Credentials
	_, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(credentials["private_key"]))
	onWhatsApp := strings.HasPrefix(out.To, whatsApp)
	switch n := utf8.RuneCountInString(out.Text); {
	case credentials["application_id"] == "" || credentials["private_key"] == "":
		return noCredentials()
	case err != nil:
		return &channel.Error{
			Class: channel.ClassReauthorise, Code: "bad_private_key",
			Sentence: "The connection's private key is none: connect the number again.",
		}
	case !onWhatsApp && n > vonageLongest:
		return reject("too_long", "The text is longer than 1000 characters.")
	case n > vonageLongestOnWhatsApp:
		return reject("too_long", "The text is longer than 4096 characters.")
	}
	return nil
}

func (v *vonage) send(ctx context.Context, out *channel.Outgoing) (string, error) {
	now := out.Now
	if now.IsZero() {
		now = v.now()
	}
	token, err := vonageToken(out.Connection, now)
	if err != nil {
		return "", &channel.Error{Class: channel.ClassReauthorise, Code: "bad_private_key", NotTaken: true}
	}
	body, err := json.Marshal(vonageMessage(out))
	if err != nil {
		return "", &channel.Error{Class: channel.ClassReject, Code: "request", NotTaken: true}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, v.baseURL+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return "", &channel.Error{Class: channel.ClassRetry, Code: "request", NotTaken: true}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := v.http.Do(request)
	if err != nil {
		return "", channel.NetworkError(err)
	}
	defer response.Body.Close()
	var answer vonageBody
	readErr := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer)
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		return "", vonageRefusal(response, answer.code())
	case readErr != nil || !isSID(answer.text("message_uuid")): // a 2xx that is not Vonage's: nobody can say what happened
		return "", &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return answer.text("message_uuid"), nil
}

// vonageToken says who asks, for as long as a call may take and longer. Its beginning lies back a little, so that a
// clock that is ahead does not pass for wrong credentials.
func vonageToken(conn *channel.Connection, now time.Time) (string, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(conn.Credentials["private_key"]))
	if err != nil {
		return "", err
	}
	return jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"application_id": conn.Credentials["application_id"],
		"iat":            now.Add(-time.Minute).Unix(),
		"exp":            now.Add(15 * time.Minute).Unix(),
		"jti":            uuid.NewString(),
	}).SignedString(key)
}

// vonageMessage is the body of a call.
func vonageMessage(out *channel.Outgoing) map[string]any {
	bare := func(address string) string { return strings.TrimPrefix(strings.TrimPrefix(address, whatsApp), "+") }
	message := map[string]any{
		"channel": "sms", "message_type": "text", "text": out.Text,
		"to": bare(out.To), "from": bare(out.Connection.ExternalID), "client_ref": clientRef(out),
	}
	onWhatsApp := strings.HasPrefix(out.To, whatsApp)
	if file := out.Attachment; file != nil {
		kind := vonageKind(file.ContentType, onWhatsApp)
		about := map[string]any{"url": file.URL}
		if kind == "file" && file.Name != "" {
			about["name"] = file.Name
		}
		delete(message, "text")
		message["channel"], message["message_type"], message[kind] = "mms", kind, about
	}
	if onWhatsApp {
		message["channel"] = "whatsapp"
		if isSID(out.ReplyTo) {
			message["context"] = map[string]any{"message_uuid": out.ReplyTo}
		}
	}
	// Statuses of this message go to the connection's own path, whatever the application's status URL is. Its query is
	// left out: the signature does not cover it.
	if callback, _, _ := strings.Cut(out.CallbackURL, "?"); callback != "" {
		message["webhook_url"], message["webhook_version"] = callback, "v1"
	}
	return message
}

// vonageKind is what Vonage calls a file of a type: WhatsApp takes two kinds of image, and contacts only as a file.
func vonageKind(contentType string, onWhatsApp bool) string {
	contentType, _, _ = strings.Cut(contentType, ";")
	switch kind := attachmentKind(contentType); {
	case contentType == "text/vcard" || contentType == "text/x-vcard":
		if onWhatsApp {
			return "file"
		}
		return "vcard"
	case kind == "image" && onWhatsApp && contentType != "image/jpeg" && contentType != "image/png":
		return "file"
	default:
		return kind
	}
}

// clientRef carries our ids through Vonage, which repeats it in every status: 100 characters at most
// (message and conversation in 32 each, part and attempt in ten).
func clientRef(out *channel.Outgoing) string {
	bare := func(id string) string { return strings.ReplaceAll(id, "-", "") }
	return bare(out.MessageID) + "." + strconv.Itoa(int(out.Part)) + "." + strconv.Itoa(int(out.Attempt)) + "." + bare(out.ConversationKey)
}

// oursByRef reads what clientRef wrote; a message that was sent elsewhere may have any other.
func (s *status) oursByRef(ref string) {
	fields := strings.Split(ref, ".")
	if len(fields) != 4 {
		return
	}
	if id, err := uuid.Parse(fields[0]); err == nil {
		s.messageID, s.part, s.attempt = id.String(), number(fields[1]), number(fields[2])
	}
	if key, err := uuid.Parse(fields[3]); err == nil {
		s.conversation = key.String()
	}
}

// mediaHeader is a token, which Vonage asks for where the application has "secure inbound media"
// (https://developer.vonage.com/en/messages/concepts/secure-inbound-media): to its own hosts over TLS, or to its
// stand-in's.
func (v *vonage) mediaHeader(conn *channel.Connection, address *url.URL) (http.Header, bool) {
	base, err := url.Parse(v.baseURL)
	standIn := err == nil && address.Host == base.Host && address.Scheme == base.Scheme
	host := strings.ToLower(address.Hostname())
	own := address.Scheme == "https" && (strings.HasSuffix(host, ".nexmo.com") || strings.HasSuffix(host, ".vonage.com"))
	if !standIn && !own {
		return nil, false
	}
	token, err := vonageToken(conn, v.now())
	if err != nil {
		return nil, false
	}
	return http.Header{"Authorization": {"Bearer " + token}}, true
}

// vonageBody is an object of Vonage's. What is not of the type that is asked for counts as absent: one odd field
// loses nothing else.
type vonageBody map[string]json.RawMessage

// text of a field that is text or a number; valid UTF-8 without NUL.
func (b vonageBody) text(name string) string {
	var s string
	var n json.Number
	switch raw := b[name]; {
	case json.Unmarshal(raw, &s) == nil:
		return clean(s)
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	}
	return ""
}

func (b vonageBody) object(name string) (o vonageBody) {
	_ = json.Unmarshal(b[name], &o) // absent
	return o
}

// party is who is named, as this mesh writes addresses: Vonage writes numbers without their plus.
func (b vonageBody) party(name string) string {
	address := withPlus(b.text(name))
	if b.text("channel") == "whatsapp" {
		address = whatsApp + address
	}
	return address
}

// incoming message of a type; not known where that says nothing that can be shown, but that somebody wrote.
func (b vonageBody) incoming(kind string) (m *incoming, known bool) {
	m = &incoming{
		sid: b.text("message_uuid"), from: b.party("from"), body: b.text("text"),
		profileName: b.object("profile").text("name"), technical: map[string]string{},
	}
	if network := b.object("origin").text("network_code"); network != "" {
		m.technical["network"] = network
	}
	if quoted := b.object("context").text("message_uuid"); isSID(quoted) {
		m.replyTo = quoted
	}
	known = true
	switch about := b.object(kind); kind {
	case "text", "":
	case "image", "audio", "video", "file", "vcard", "sticker":
		m.body = first(m.body, about.text("caption"))
		m.attach(kind, about)
	case "reply": // a button or a list's entry
		m.body, m.payload = first(m.body, about.text("title")), about.text("id")
	case "button": // of a template
		m.body, m.payload = first(m.body, about.text("text")), about.text("payload")
	case "location":
		m.body = place(first(about.text("name"), about.text("address")), about.text("lat"), about.text("long"))
	default:
		known = false
	}
	var content []vonageBody
	_ = json.Unmarshal(b["content"], &content) // absent: only a message of several files has it
	const most = 100
	for _, item := range content[:min(len(content), most)] {
		if item.text("type") == "text" {
			m.body = first(m.body, item.text("text"))
			continue
		}
		m.attach(item.text("type"), item)
		known = true
	}
	return m, known
}

// attach a file, unless it is there already.
func (m *incoming) attach(kind string, about vonageBody) {
	address := about.text("url")
	if address == "" || slices.ContainsFunc(m.media, func(have media) bool { return have.url == address }) {
		return
	}
	item := media{ref: strconv.Itoa(len(m.media)), kind: "file", name: about.text("name"), url: address}
	switch kind {
	case "image", "audio", "video":
		item.kind = kind
	case "sticker":
		item.kind = "image"
	case "vcard":
		item.contentType = "text/vcard"
	}
	m.media = append(m.media, item)
}

// reaction of the shape that Vonage documents for those it sends
// (https://developer.vonage.com/en/messages/code-snippets/whatsapp/send-reaction); it documents none that it receives.
func (b vonageBody) reaction() *reaction {
	about := b.object("reaction")
	return &reaction{
		sid: b.text("message_uuid"), from: b.party("from"), target: b.object("context").text("message_uuid"),
		emoji: about.text("emoji"), removed: about.text("action") == "unreact",
	}
}

// status of a message that went out (https://developer.vonage.com/en/messages/concepts/messages-status-callbacks);
// nil for a word that is not known.
func (b vonageBody) status(word string) *status {
	s := &status{sid: b.text("message_uuid"), to: b.party("to"), word: word}
	s.oursByRef(b.text("client_ref"))
	switch word {
	case "submitted":
		s.status = channel.StatusSent
	case "delivered":
		s.status = channel.StatusDelivered
	case "read":
		s.status = channel.StatusRead
	case "rejected", "undeliverable":
		s.status = channel.StatusFailed
		code := b.object("error").code()
		s.class, s.code = vonageClass(code), first(code, word)
		if code == "" && word == "undeliverable" { // Vonage could not reach who carries it
			s.class = channel.ClassRetry
		}
	default:
		return nil
	}
	return s
}

// code of an error: its title, or what its type ends with.
func (b vonageBody) code() string {
	_, fragment, _ := strings.Cut(b.text("type"), "#")
	for _, code := range []string{b.text("title"), fragment} {
		if vonageCode.MatchString(code) {
			return code
		}
	}
	return ""
}

// vonageCode is a number, or a word of https://developer.vonage.com/en/api-errors.
var vonageCode = regexp.MustCompile(`^([0-9]{3,6}|[a-z]{1,20}(-[a-z]{1,20}){0,4})$`)

// vonageClass sorts Vonage's error codes (https://developer.vonage.com/en/api-errors/messages). What is not named is
// refused for good.
func vonageClass(code string) channel.Class {
	switch code {
	case "1110", "1370", "jwt-expired", "jwt-revoked", "invalid-api-key", "invalid-signature":
		return channel.ClassReauthorise
	case "1240": // the person sent STOP
		return channel.ClassOptedOut
	case "1340": // WhatsApp's window of 24 hours
		return channel.ClassWindowClosed
	case "1000", "1030", "1100", "1180", "1220", "1230", "1241": // rates, faults, a phone that is busy or off
		return channel.ClassRetry
	}
	return channel.ClassReject
}

func vonageRefusal(response *http.Response, code string) *channel.Error {
	sentence := ""
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		sentence = "Vonage no longer accepts this connection's credentials: connect the number again."
	case response.StatusCode == http.StatusPaymentRequired, code == "1070", code == "low-balance":
		sentence = "The Vonage account has no credit left."
	case code == "1240":
		sentence = "The person has opted out."
	case code == "1340":
		sentence = windowClosed
	case code == "1120", code == "1420":
		sentence = "This connection's number can't send text messages from the Vonage account."
	case code == "1170", code == "1430":
		sentence = "Vonage says that the number can't receive text messages."
	}
	return refused(response, vonageClass(code), code, sentence)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
