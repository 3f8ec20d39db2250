package sms

import "tributary.dev/libs/channel"

// Verify checks the provider's signature against each secret.
func (a *Adapter) Verify(r *channel.Request, secrets channel.Secrets) error {
	p := a.provider(r.Settings)
	if p == nil {
		return &channel.Error{Class: channel.ClassUnverified, Code: "unknown_provider"}
	}
	for _, secret := range secrets {
		if secret != "" && p.signed(r, secret) { // anybody can sign with an empty key
			return nil
		}
	}
	return &channel.Error{Class: channel.ClassUnverified, Code: "signature_wrong"}
}
