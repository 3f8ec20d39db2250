package messenger

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tributary.dev/libs/channel"
)

// Callbacks of Meta's beside the webhook: a person has taken the app off their Facebook account, or asks for the deletion
// of what it has of them. Both carry the same form, which says nothing of which it is: the address that Meta was given
// does (https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback).
const (
	deauthorise  = "deauthorise"
	dataDeletion = "data_deletion"
)

// callback that a request is by its address; not ok where it is a webhook. Nobody knows one of another name.
func callback(r *channel.Request) (name string, ok bool) {
	if r.URL == nil || r.URL.RawQuery == "" {
		return "", false
	}
	query := r.URL.Query()
	return query.Get("callback"), query.Has("callback")
}

// maxCallback in bytes: a signed request has some two hundred.
const maxCallback = 16 << 10

// signedRequest is the one field of a callback: a signature, a dot, and what is signed, encoded.
type signedRequest struct {
	signature []byte
	encoded   string
	payload   payload
}

// payload of a signed request. The user's id is scoped to the app: it is of who used Facebook Login with it, and no PSID.
type payload struct {
	Algorithm string `json:"algorithm"`
	IssuedAt  loose  `json:"issued_at"`
	UserID    loose  `json:"user_id"`
}

// signedOf a callback, whose payload is not read yet. What is there twice is nobody's.
func signedOf(r *channel.Request) (s signedRequest, ok bool) {
	if len(r.Body) > maxCallback {
		return s, false
	}
	form, err := r.Form()
	if err != nil || len(form["signed_request"]) != 1 {
		return s, false
	}
	signature, encoded, _ := strings.Cut(form.Get("signed_request"), ".")
	s.encoded = encoded
	s.signature, ok = unbase64(signature)
	return s, ok && len(s.signature) == sha256.Size
}

// read the payload.
func (s *signedRequest) read() bool {
	raw, ok := unbase64(s.encoded)
	return ok && channel.DecodeObject(raw, &s.payload) == nil && s.payload.Algorithm == "HMAC-SHA256"
}

// unbase64 reads base64url without padding, in the one form that it has.
func unbase64(s string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	return raw, err == nil && base64.RawURLEncoding.EncodeToString(raw) == s
}

// verifyCallback checks the signature of a callback: the HMAC-SHA256 of the encoded payload. It stands in the form, so
// that the form is read first; of the payload nothing is, unless it is signed. A webhook's signature counts for nothing
// here, and this one for nothing there.
func verifyCallback(r *channel.Request, name string, secrets channel.Secrets) error {
	if name != deauthorise && name != dataDeletion {
		return unverified("callback")
	}
	s, ok := signedOf(r)
	if !ok {
		return unverified("signature_missing")
	}
	for _, secret := range secrets {
		if secret == "" || !hmac.Equal(keyed(secret, []byte(s.encoded)), s.signature) {
			continue
		}
		if !s.read() {
			return unverified("algorithm")
		}
		return nil
	}
	return unverified("signature_wrong")
}

// called reads a callback. Its event is one of each Page that the person granted to the app, and names them by what
// connect keeps of that: the event has no id of theirs, and needs nobody's key. Taking the app away ends the tokens that
// they gave, and erases nothing; who granted nothing is nobody to the mesh, and is answered all the same.
func called(r *channel.Request, name string) (result channel.Result, err error) {
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/x-www-form-urlencoded" {
		return result, errors.New("messenger: content type is not a form")
	}
	s, ok := signedOf(r)
	if !ok || !s.read() {
		return result, errors.New("messenger: body is not a signed request")
	}
	at, user := s.payload.IssuedAt.time(), string(s.payload.UserID)
	if at.IsZero() || !isID(s.payload.UserID) {
		return result, errors.New("messenger: a signed request without user or time")
	}
	e := channel.Event{
		Grantor: channel.Grantor(r.VerifyToken, user), SourceType: name,
		Key:    name + ":" + hex.EncodeToString(ofRequest(r.VerifyToken, name, user, at)),
		IDTime: at, ActedAt: at, Order: at.UnixMicro(),
	}
	switch name {
	case deauthorise:
		e.Type, e.Reason = channel.TypeRevocation, "deauthorised"
	case dataDeletion:
		e.Type, e.Reason = channel.TypePrivacy, dataDeletion
		if result.Reply, err = confirmed(r, user, at); err != nil {
			return channel.Result{}, err
		}
	default:
		return result, errors.New("messenger: no callback of that name")
	}
	result.Events = []channel.Event{e}
	return result, nil
}

// ofRequest is an id of a callback, the same however often it is made (see normaliser.secretly).
func ofRequest(key, name, user string, at time.Time) []byte {
	return keyed(key, []byte(strings.Join([]string{name, user, at.Format(time.RFC3339Nano)}, "\x00")))[:16]
}

// confirmed answers that a deletion was asked for: with a code, and an address that says how it stands.
func confirmed(r *channel.Request, user string, at time.Time) (channel.Reply, error) {
	code := confirmationCode(r.VerifyToken, at, ofRequest(r.VerifyToken, dataDeletion, user, at))
	address := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path, RawQuery: "confirmation=" + code}
	body, err := json.Marshal(struct {
		URL  string `json:"url"`
		Code string `json:"confirmation_code"`
	}{address.String(), code})
	return channel.Reply{Status: http.StatusOK, ContentType: "application/json", Body: body}, err
}

// A confirmation code is when the request was made, in seconds; an id of it; and an HMAC of both, so that what the page
// says stands in the code alone and nothing is stored. Meta wants letters and digits.
const (
	codeTime = 8
	codeID   = 8
	codeMAC  = 16
)

var codes = base32.StdEncoding.WithPadding(base32.NoPadding)

func confirmationCode(key string, at time.Time, id []byte) string {
	code := binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))
	code = append(code, id[:codeID]...)
	return codes.EncodeToString(append(code, codeSignature(key, code)...))
}

// timeOf the request that a code is of; not ok where this app gave no such code.
func timeOf(key, code string) (at time.Time, ok bool) {
	raw, err := codes.DecodeString(code)
	if err != nil || key == "" || len(raw) != codeTime+codeID+codeMAC || codes.EncodeToString(raw) != code {
		return at, false
	}
	said, signature := raw[:codeTime+codeID], raw[codeTime+codeID:]
	return time.Unix(int64(binary.BigEndian.Uint64(said)), 0).UTC(), hmac.Equal(codeSignature(key, said), signature)
}

func codeSignature(key string, said []byte) []byte {
	return keyed(key, append([]byte("confirmation\x00"), said...))[:codeMAC]
}

//go:embed confirmation.html
var confirmationHTML string

var confirmationPage = template.Must(template.New("confirmation").Parse(confirmationHTML))

// confirmation is the page that tells a person of their request.
func confirmation(verifyToken, code string) (channel.Reply, bool, error) {
	at, ok := timeOf(verifyToken, code)
	if !ok {
		return channel.Reply{}, false, unverified("confirmation")
	}
	var page bytes.Buffer
	if err := confirmationPage.Execute(&page, struct{ Machine, At, Code string }{
		at.Format(time.RFC3339), at.Format("2 January 2006, 15:04 UTC"), code,
	}); err != nil {
		return channel.Reply{}, false, err
	}
	return channel.Reply{Status: http.StatusOK, ContentType: "text/html; charset=utf-8", Body: page.Bytes()}, true, nil
}
