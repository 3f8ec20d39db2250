package telegram

import (
	"crypto/sha256"
	"crypto/subtle"

	"tributary.dev/libs/channel"
)

// Verify checks the signature against each secret.
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	for _, secret := range secrets {
		if secret != "" && signed(r, secret) { // anybody can sign with an empty key
			return nil
		}
	}
	return &channel.Error{Class: channel.ClassUnverified, Code: "signature_wrong"}
}

// signed tells whether a request carries the secret that setWebhook was given (https://core.telegram.org/bots/api#setwebhook).
// Of hashes, so that the time it takes does not tell the secret's length either.
func signed(r *channel.Request, secret string) bool {
	given, want := sha256.Sum256([]byte(r.Header.Get("X-Telegram-Bot-Api-Secret-Token"))), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}
