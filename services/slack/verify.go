package slack

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// maxSkew is how far a request's timestamp may be from the time, either way
// (https://docs.slack.dev/authentication/verifying-requests-from-slack).
const maxSkew = 5 * time.Minute

// Verify checks X-Slack-Signature, the HMAC-SHA256 of "v0:<timestamp>:<raw body>", against each secret.
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	stamp := r.Header.Get("X-Slack-Request-Timestamp")
	signed, ok := signedAt(r)
	if !ok {
		return unverified("timestamp_missing")
	}
	if !r.SignedWithin(signed, maxSkew) {
		return unverified("timestamp_stale")
	}
	given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Slack-Signature"), "v0="))
	if err != nil || len(given) != sha256.Size {
		return unverified("signature_missing")
	}
	for _, secret := range secrets {
		if secret == "" { // anybody can sign with an empty key
			continue
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte("v0:" + stamp + ":"))
		mac.Write(r.Body)
		if hmac.Equal(mac.Sum(nil), given) {
			return nil
		}
	}
	return unverified("signature_wrong")
}

// maxHandshake is more than a handshake has: a token, a word and a challenge.
const maxHandshake = 512

// Challenge answers url_verification, by which Slack proves that a webhook's address is the app's.
func (a *Adapter) Challenge(r *channel.Request, _ channel.Secrets) (channel.Reply, bool, error) {
	if r.Method != http.MethodPost || len(r.Body) > maxHandshake || contentType(r) != "application/json" || !bytes.Contains(r.Body, []byte(`"url_verification"`)) {
		return channel.Reply{}, false, nil
	}
	var ask struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	asked := channel.Decode(r.Body, &ask) == nil && ask.Type == "url_verification"
	if !asked { // what does not decode is Normalise's to refuse
		return channel.Reply{}, false, nil
	}
	return channel.Reply{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: []byte(ask.Challenge)}, true, nil
}

// signedAt is the time in the header that the signature covers.
func signedAt(r *channel.Request) (time.Time, bool) {
	seconds, err := strconv.ParseInt(r.Header.Get("X-Slack-Request-Timestamp"), 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

func unverified(code string) error {
	return &channel.Error{Class: channel.ClassUnverified, Code: code}
}
