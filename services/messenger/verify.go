package messenger

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"

	"tributary.dev/libs/channel"
)

// Verify checks X-Hub-Signature-256, the HMAC-SHA256 of the raw body under the app's secret, against each secret. The
// SHA-1 header beside it is not looked at
// (https://developers.facebook.com/docs/messenger-platform/webhooks#validate-payloads). Callbacks are signed in another
// way, and have addresses of their own.
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	if name, ok := callback(r); ok {
		return verifyCallback(r, name, secrets)
	}
	signature, ok := strings.CutPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256=")
	given, err := hex.DecodeString(signature)
	if !ok || err != nil || len(given) != sha256.Size {
		return unverified("signature_missing")
	}
	for _, secret := range secrets {
		if secret != "" && hmac.Equal(keyed(secret, r.Body), given) { // anybody can sign with an empty key
			return nil
		}
	}
	return unverified("signature_wrong")
}

// maxChallenge is more than a challenge has: it is a number of ten digits.
const maxChallenge = 256

// Challenge answers the GET by which Meta proves that a webhook's address is the app's: who knows the app's verify
// token gets the challenge back. Any other is refused
// (https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests). The same address
// tells a person who asked for the deletion of their data how that stands, by the code that Meta gave them.
func (a *Adapter) Challenge(r *channel.Request, _ channel.Secrets) (channel.Reply, bool, error) {
	if r.Method != http.MethodGet || r.URL == nil {
		return channel.Reply{}, false, nil
	}
	query := r.URL.Query()
	if code := query.Get("confirmation"); code != "" {
		return confirmation(r.VerifyToken, code)
	}
	challenge := query.Get("hub.challenge")
	if query.Get("hub.mode") != "subscribe" || challenge == "" || len(challenge) > maxChallenge {
		return channel.Reply{}, false, nil
	}
	given := sha256.Sum256([]byte(query.Get("hub.verify_token")))
	want := sha256.Sum256([]byte(r.VerifyToken))
	if r.VerifyToken == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return channel.Reply{}, false, unverified("verify_token")
	}
	return channel.Reply{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: []byte(challenge)}, true, nil
}

// keyed is an HMAC-SHA256.
func keyed(key string, data []byte) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(data)
	return mac.Sum(nil)
}

func unverified(code string) error {
	return &channel.Error{Class: channel.ClassUnverified, Code: code}
}
