package email

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// Headers of a raw mail that is posted: the time in seconds since 1970, and "sha256=" with the hexadecimal
// HMAC-SHA256, under the connection's webhook_secret, of that time as it is written, a full stop, and the body.
const (
	TimestampHeader = "X-Tributary-Timestamp"
	SignatureHeader = "X-Tributary-Signature"
)

// skew is how far the signed time may be off.
const skew = 5 * time.Minute

func signature256(secret, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// Verify checks the signature of a raw mail, or the secret that Postmark repeats: it signs nothing, but keeps a
// password in the webhook's URL, or a token there (https://postmarkapp.com/developer/webhooks/webhooks-overview).
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	check := bears
	if isRaw(r) {
		check = signed
	}
	for _, secret := range secrets {
		if secret != "" && check(r, secret) { // anybody knows the empty one
			return nil
		}
	}
	return &channel.Error{Class: channel.ClassUnverified, Code: "signature_wrong"}
}

// bears tells whether a request carries the secret, as the password of basic authentication or as the token of its URL.
func bears(r *channel.Request, secret string) bool {
	_, password, ok := (&http.Request{Header: r.Header}).BasicAuth()
	if !ok && r.URL != nil {
		password = r.URL.Query().Get("token")
	}
	return same(password, secret)
}

// same compares in a time that tells neither the text nor its length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return hmac.Equal(x[:], y[:])
}

func signed(r *channel.Request, secret string) bool {
	timestamp := r.Header.Get(TimestampHeader)
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || !r.SignedWithin(time.Unix(at, 0), skew) {
		return false
	}
	said, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get(SignatureHeader), "sha256="))
	return err == nil && hmac.Equal(said, signature256(secret, timestamp, r.Body))
}

func isRaw(r *channel.Request) bool {
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return contentType == "message/rfc822"
}
