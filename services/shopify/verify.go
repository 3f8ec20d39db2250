package shopify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"tributary.dev/libs/channel"
)

// Verify checks X-Shopify-Hmac-SHA256, the base64 HMAC-SHA256 of the raw body, against each secret
// (https://shopify.dev/docs/apps/build/webhooks/subscribe/https#step-2-validate-the-origin-of-your-webhook-to-ensure-its-coming-from-shopify).
// It covers the body alone: of the headers, which say whose shop it is and what happened, nothing is proven. What the
// body says of that too is compared (see notOf).
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	given, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Shopify-Hmac-SHA256"))
	if err != nil || len(given) != sha256.Size {
		return unverified("signature_missing")
	}
	for _, secret := range secrets {
		if secret == "" { // anybody can sign with an empty key
			continue
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(r.Body)
		if hmac.Equal(mac.Sum(nil), given) {
			return nil
		}
	}
	return unverified("signature_wrong")
}

func unverified(code string) error {
	return &channel.Error{Class: channel.ClassUnverified, Code: code}
}
