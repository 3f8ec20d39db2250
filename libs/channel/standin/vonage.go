package standin

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Vonage stands in for version 1 of Vonage's Messages API and for its media.
type Vonage struct {
	*server

	account VonageAccount
	posts   []VonagePost
	media   map[string]Media
	// Posted is called after a message was taken, in a goroutine of the call: the place to call back.
	Posted func(VonagePost)
}

// VonageAccount is who may call: an application by its key, or an account by its secret.
type VonageAccount struct {
	ApplicationID     string
	Key               *rsa.PublicKey
	APIKey, APISecret string
}

// VonagePost is a message that Vonage took.
type VonagePost struct {
	UUID                                         string
	Channel, MessageType, From, To, Text         string
	URL, Name, ReplyTo                           string
	ClientRef, WebhookURL, WebhookVersion, Token string
}

// NewVonage starts one on address, for one account; media is served by its name below /v3/media/.
func NewVonage(address string, account VonageAccount, media map[string]Media) (*Vonage, error) {
	v := &Vonage{server: newServer(), account: account, media: map[string]Media{}}
	maps.Copy(v.media, media)
	v.mux.HandleFunc("POST /v1/messages", v.create)
	v.mux.HandleFunc("GET /v3/media/{name}", v.fetch)
	v.mux.HandleFunc("GET /v1/conversations", func(w http.ResponseWriter, r *http.Request) { // by which an application is known to work
		if v.authorised(w, r) {
			answer(w, map[string]any{"page_size": 1, "_embedded": map[string]any{"conversations": []any{}}})
		}
	})
	return v, v.start(address)
}

// Posts are the messages taken so far, in order.
func (v *Vonage) Posts() []VonagePost {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.posts)
}

// Keep has media that can be fetched from /v3/media/ and name, with a token only.
func (v *Vonage) Keep(name string, m Media) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.media[name] = m
}

func (v *Vonage) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // only once it was read is a caller seen to leave
	if err != nil || !v.authorised(w, r) {
		return
	}
	v.carry(w, r, "messages", func() (int, any) {
		p, fault := vonagePost(body)
		if fault != nil {
			return http.StatusUnprocessableEntity, fault
		}
		p.Token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		v.mu.Lock()
		p.UUID = fmt.Sprintf("aaaaaaaa-bbbb-4ccc-8ddd-%012x", len(v.posts)+1)
		v.posts = append(v.posts, p)
		posted := v.Posted
		v.mu.Unlock()
		if posted != nil {
			posted(p)
		}
		return http.StatusAccepted, map[string]any{"message_uuid": p.UUID}
	})
}

func (v *Vonage) fetch(w http.ResponseWriter, r *http.Request) {
	if !v.authorised(w, r) {
		return
	}
	v.mu.Lock()
	m, ok := v.media[r.PathValue("name")]
	v.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.ContentType)
	_, _ = w.Write(m.Data)
}

// vonageTo is how Vonage wants the numbers it sends to: E.164 without the plus.
var vonageTo = regexp.MustCompile(`^[1-9][0-9]{6,14}$`)

// vonagePost reads a call as Vonage does, which refuses what does not fit together.
func vonagePost(body []byte) (VonagePost, map[string]any) {
	var call map[string]any
	if json.Unmarshal(body, &call) != nil {
		return VonagePost{}, vonageFault("invalid-json", "Invalid JSON")
	}
	text := func(m map[string]any, name string) string { s, _ := m[name].(string); return s }
	p := VonagePost{
		Channel: text(call, "channel"), MessageType: text(call, "message_type"), From: text(call, "from"), To: text(call, "to"),
		Text: text(call, "text"), ClientRef: text(call, "client_ref"), WebhookURL: text(call, "webhook_url"),
		WebhookVersion: text(call, "webhook_version"),
	}
	if context, ok := call["context"].(map[string]any); ok {
		p.ReplyTo = text(context, "message_uuid")
	}
	if about, ok := call[p.MessageType].(map[string]any); ok {
		p.URL, p.Name = text(about, "url"), text(about, "name")
	}
	kinds := map[string][]string{
		"sms": {"text"}, "mms": {"image", "vcard", "audio", "video", "file"}, "whatsapp": {"text", "image", "audio", "video", "file", "sticker"},
	}
	longest := map[string]int{"sms": 1000, "whatsapp": 4096}[p.Channel]
	switch {
	case kinds[p.Channel] == nil:
		return p, vonageFault("1410", "Invalid channel")
	case !slices.Contains(kinds[p.Channel], p.MessageType):
		return p, vonageFault("1400", "Invalid message type")
	case !vonageTo.MatchString(p.To):
		return p, vonageFault("1430", "Invalid recipient")
	case p.From == "" || strings.HasPrefix(p.From, "+"):
		return p, vonageFault("1120", "Invalid sender")
	case p.MessageType == "text" && (p.Text == "" || utf8.RuneCountInString(p.Text) > longest),
		p.MessageType != "text" && p.URL == "", len(p.ClientRef) > 100:
		return p, vonageFault("1020", "Invalid params")
	}
	return p, nil
}

func vonageFault(code, title string) map[string]any {
	return map[string]any{
		"type": "https://developer.vonage.com/api-errors/messages#" + code, "title": title,
		"detail": "The request can't be taken.", "instance": "bf0ca0bf927b3b52e3cb03217e1a1ddf",
	}
}

// authorised wants a token that the application's key signed (RS256), or the account's key and secret.
func (v *Vonage) authorised(w http.ResponseWriter, r *http.Request) bool {
	key, secret, basic := r.BasicAuth()
	if basic && v.account.APISecret != "" && key == v.account.APIKey && secret == v.account.APISecret {
		return true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && v.vouched(token) {
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, `{"type":"https://developer.vonage.com/api-errors#unauthorized","title":"Unauthorized","detail":"You did not provide correct credentials.","instance":"bf0ca0bf927b3b52e3cb03217e1a1ddf"}`)
	return false
}

func (v *Vonage) vouched(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || v.account.Key == nil {
		return false
	}
	var header struct{ Alg string }
	var claims struct {
		ApplicationID string `json:"application_id"`
		Iat, Exp      int64
		Jti           string
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !jwtPart(parts[0], &header) || !jwtPart(parts[1], &claims) || header.Alg != "RS256" {
		return false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	return rsa.VerifyPKCS1v15(v.account.Key, crypto.SHA256, sum[:], signature) == nil &&
		claims.ApplicationID == v.account.ApplicationID && claims.Jti != "" && claims.Iat <= now && now < claims.Exp
}

func jwtPart(part string, into any) bool {
	text, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(text, into) == nil
}

// VonageHeader signs a webhook's body as Vonage does at a time: a JWT (HS256) with the body's hash.
func VonageHeader(signatureSecret string, body []byte, at time.Time) http.Header {
	sum := sha256.Sum256(body)
	return VonageToken(signatureSecret, map[string]any{
		"iat": at.Unix(), "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", "iss": "Vonage",
		"payload_hash": hex.EncodeToString(sum[:]), "api_key": "abcd1234",
		"application_id": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
	})
}

// VonageToken is a webhook's header with any claims.
func VonageToken(signatureSecret string, claims map[string]any) http.Header {
	payload := mustJSON(claims)
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(signatureSecret))
	mac.Write([]byte(token))
	return http.Header{
		"Content-Type":  {"application/json"},
		"Authorization": {"Bearer " + token + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))},
	}
}

// VonageInbound is the body of an incoming text on a channel (sms, mms, whatsapp). Numbers have no plus.
func VonageInbound(channel, uuid, from, to, text string, at time.Time) []byte {
	body := map[string]any{
		"channel": channel, "message_uuid": uuid, "to": to, "from": from, "timestamp": at.UTC().Format(time.RFC3339),
		"message_type": "text", "text": text,
	}
	if channel == "sms" {
		body["sms"] = map[string]any{"num_messages": "1", "total_count": "1", "keyword": "HELLO"}
		body["usage"] = map[string]any{"currency": "EUR", "price": "0.0333"}
		body["origin"] = map[string]any{"network_code": "22801"}
	}
	return mustJSON(body)
}

// VonageStatus is the body of a status webhook of a post: submitted, delivered, read, rejected or undeliverable; the
// last two with an error's code.
func VonageStatus(p VonagePost, status, code string, at time.Time) []byte {
	body := map[string]any{
		"message_uuid": p.UUID, "to": p.To, "from": p.From, "timestamp": at.UTC().Format(time.RFC3339),
		"status": status, "channel": p.Channel,
	}
	if p.ClientRef != "" {
		body["client_ref"] = p.ClientRef
	}
	if code != "" {
		body["error"] = map[string]any{
			"type": "https://developer.vonage.com/api-errors/messages#" + code, "title": json.Number(code),
			"detail": "The message was not delivered.", "instance": "bf0ca0bf927b3b52e3cb03217e1a1ddf",
		}
	}
	return mustJSON(body)
}

// mustJSON of maps of text and numbers, which always encode; as providers write it, without escapes of HTML's.
func mustJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
