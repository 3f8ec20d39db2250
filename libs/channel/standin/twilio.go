package standin

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with HMAC-SHA1
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Twilio stands in for Twilio's Messages API, its media, and what it tells of an account.
type Twilio struct {
	*server

	accountSID, authToken string
	posts                 []TwilioPost
	media                 map[string]Media
	numbers               []string // nil: all
	// Posted is called after a message was taken, in a goroutine of the call: the place to call back.
	Posted func(TwilioPost)
}

// TwilioPost is a message that Twilio took.
type TwilioPost struct {
	SID, From, To, Body, StatusCallback string
	MediaURL                            []string
}

// Media is a file with its type.
type Media struct {
	ContentType string
	Data        []byte
}

// NewTwilio starts one on address, for one account; media is served by path.
func NewTwilio(address, accountSID, authToken string, media map[string]Media) (*Twilio, error) {
	t := &Twilio{server: newServer(), accountSID: accountSID, authToken: authToken, media: map[string]Media{}}
	maps.Copy(t.media, media)
	t.mux.HandleFunc("POST /2010-04-01/Accounts/{account}/Messages.json", t.create)
	t.mux.HandleFunc("GET /media/{path...}", t.fetch)
	t.accountRoutes()
	return t, t.start(address)
}

// Posts are the messages taken so far, in order.
func (t *Twilio) Posts() []TwilioPost {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.posts)
}

// Keep has media that can be fetched from /media/ and path.
func (t *Twilio) Keep(path string, m Media) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.media[path] = m
}

func (t *Twilio) authorised(w http.ResponseWriter, r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if ok && user == t.accountSID && password == t.authToken {
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"code":20003,"message":"Authenticate","status":401}`))
	return false
}

func (t *Twilio) create(w http.ResponseWriter, r *http.Request) {
	if !t.authorised(w, r) {
		return
	}
	t.carry(w, r, "messages.create", func() (int, any) {
		if err := r.ParseForm(); err != nil {
			return 400, map[string]any{"code": 21602, "status": 400}
		}
		t.mu.Lock()
		p := TwilioPost{
			SID:  fmt.Sprintf("SM%032x", len(t.posts)+1),
			From: r.PostForm.Get("From"), To: r.PostForm.Get("To"), Body: r.PostForm.Get("Body"),
			StatusCallback: r.PostForm.Get("StatusCallback"), MediaURL: r.PostForm["MediaUrl"],
		}
		t.posts = append(t.posts, p)
		posted := t.Posted
		t.mu.Unlock()
		if posted != nil {
			posted(p)
		}
		return 201, map[string]any{
			"sid": p.SID, "status": "queued", "from": p.From, "to": p.To, "body": p.Body, "account_sid": t.accountSID,
			"error_code": nil, "error_message": nil, "num_segments": "1", "num_media": "0", "direction": "outbound-api",
		}
	})
}

func (t *Twilio) fetch(w http.ResponseWriter, r *http.Request) {
	if !t.authorised(w, r) {
		return
	}
	t.mu.Lock()
	m, ok := t.media[r.PathValue("path")]
	t.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.ContentType)
	_, _ = w.Write(m.Data)
}

// TwilioHeader signs a form as Twilio does: the public URL with each parameter's name and value, sorted.
func TwilioHeader(authToken, publicURL string, form url.Values) http.Header {
	var b strings.Builder
	b.WriteString(publicURL)
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values := slices.Clone(form[name])
		slices.Sort(values)
		for _, value := range values {
			b.WriteString(name + value)
		}
	}
	mac := hmac.New(sha1.New, []byte(authToken))
	mac.Write([]byte(b.String()))
	return http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded"},
		"X-Twilio-Signature": {base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
}

// TwilioInbound is the form of an incoming message.
func TwilioInbound(accountSID, sid, from, to, body string, mediaURLs ...string) url.Values {
	form := url.Values{
		"ToCountry": {"CH"}, "SmsMessageSid": {sid}, "NumMedia": {fmt.Sprint(len(mediaURLs))}, "SmsSid": {sid},
		"SmsStatus": {"received"}, "Body": {body}, "To": {to}, "NumSegments": {"1"}, "MessageSid": {sid},
		"AccountSid": {accountSID}, "From": {from}, "ApiVersion": {"2010-04-01"},
	}
	for i, u := range mediaURLs {
		form.Set(fmt.Sprintf("MediaUrl%d", i), u)
		form.Set(fmt.Sprintf("MediaContentType%d", i), "image/jpeg")
	}
	return form
}

// TwilioStatus is the form of a status callback.
func TwilioStatus(accountSID string, p TwilioPost, status, errorCode string) url.Values {
	form := url.Values{
		"SmsSid": {p.SID}, "SmsStatus": {status}, "MessageStatus": {status}, "To": {p.To}, "MessageSid": {p.SID},
		"AccountSid": {accountSID}, "From": {p.From}, "ApiVersion": {"2010-04-01"},
	}
	if errorCode != "" {
		form.Set("ErrorCode", errorCode)
	}
	return form
}
