// Code generated from services/*/channel.yaml by make generate. DO NOT EDIT.

package channel

// Names of the channels there are, sorted.
func Names() []string {
	return []string{"email", "messenger", "shopify", "slack", "sms", "telegram"}
}

// Lookup gives the features of a channel.
func Lookup(name string) (Features, bool) {
	switch name {
	case "email":
		return Features{Name: "email", Title: "Email", Ref: "connection", BodyLimit: 36700160, TextLimit: 65536, TextUnit: "characters", Address: true, ProviderTime: false, IdentityKind: "email", ExternalID: "[a-z0-9!#$%&'*/=?^_`{|}~.-]{1,64}@[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", Settings: map[string]string{"from_name": "[^\\x00-\\x1f\\x7f<>\"]{1,100}", "message_stream": "[a-z0-9][a-z0-9-]{0,49}", "messages_per_second": "0\\.(0[1-9]|[1-9][0-9]?)|[1-9][0-9]{0,2}(\\.[0-9]{1,2})?|1000", "provider": "postmark|smtp", "smtp_host": "[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?", "smtp_port": "[1-9][0-9]{0,4}", "smtp_tls": "starttls|implicit|none", "trusted_host": "[A-Za-z0-9][A-Za-z0-9._:-]{0,252}"}, Credentials: []string{"server_token", "webhook_secret"}, Optional: []string{"previous_webhook_secret"}, AppSecrets: []string{}, SignedWith: []string{"webhook_secret", "previous_webhook_secret"}, Providers: map[string]Provider{"postmark": Provider{Credentials: []string{"server_token", "webhook_secret"}, Optional: []string{"previous_webhook_secret"}, SignedWith: []string{"webhook_secret", "previous_webhook_secret"}, TextLimit: 0, WithoutSettings: []string(nil)}, "smtp": Provider{Credentials: []string{"smtp_username", "smtp_password"}, Optional: []string{"webhook_secret", "previous_webhook_secret"}, SignedWith: []string{"webhook_secret", "previous_webhook_secret"}, TextLimit: 0, WithoutSettings: []string(nil)}}, Whole: true, Batches: false, Interfaces: []string{"sender", "listener"}, LongestCall: 120}, true
	case "messenger":
		return Features{Name: "messenger", Title: "Messenger", Ref: "app", BodyLimit: 4194304, TextLimit: 2000, TextUnit: "utf16", Address: true, ProviderTime: true, IdentityKind: "psid", ExternalID: "[0-9]{1,32}", Settings: map[string]string{}, Credentials: []string{"page_token"}, Optional: []string(nil), AppSecrets: []string{"client_secret", "signing_secret", "verify_token"}, SignedWith: []string(nil), Providers: map[string]Provider(nil), Whole: false, Batches: true, Interfaces: []string{"challenger", "sender", "fetcher"}, LongestCall: 60}, true
	case "shopify":
		return Features{Name: "shopify", Title: "Shopify", Ref: "app", BodyLimit: 2097152, TextLimit: 1, TextUnit: "characters", Address: false, ProviderTime: true, IdentityKind: "shopify_customer", ExternalID: "[a-z0-9][a-z0-9-]*\\.myshopify\\.com", Settings: map[string]string{}, Credentials: []string{"access_token"}, Optional: []string(nil), AppSecrets: []string{"signing_secret"}, SignedWith: []string(nil), Providers: map[string]Provider(nil), Whole: false, Batches: false, Interfaces: []string{"poller"}, LongestCall: 60}, true
	case "slack":
		return Features{Name: "slack", Title: "Slack", Ref: "app", BodyLimit: 524288, TextLimit: 4000, TextUnit: "characters", Address: false, ProviderTime: true, IdentityKind: "slack_user", ExternalID: "[TE][A-Z0-9]{2,}", Settings: map[string]string{}, Credentials: []string{"bot_token"}, Optional: []string(nil), AppSecrets: []string{"signing_secret"}, SignedWith: []string(nil), Providers: map[string]Provider(nil), Whole: false, Batches: false, Interfaces: []string{"challenger", "sender", "fetcher", "timed"}, LongestCall: 60}, true
	case "sms":
		return Features{Name: "sms", Title: "SMS", Ref: "connection", BodyLimit: 524288, TextLimit: 1600, TextUnit: "characters", Address: true, ProviderTime: false, IdentityKind: "phone", ExternalID: "(whatsapp:)?\\+[1-9][0-9]{6,14}|[0-9]{3,8}|[A-Za-z][A-Za-z0-9 ._&+-]{0,10}|[0-9]{1,3}[A-Za-z][A-Za-z0-9 ._&+-]{0,7}", Settings: map[string]string{"help_reply": ".{1,1000}.{0,600}", "messages_per_second": "0\\.(0[1-9]|[1-9][0-9]?)|[1-9][0-9]{0,2}(\\.[0-9]{1,2})?|1000", "provider": "twilio|vonage"}, Credentials: []string{"account_sid", "auth_token"}, Optional: []string(nil), AppSecrets: []string{}, SignedWith: []string{"auth_token", "previous_auth_token"}, Providers: map[string]Provider{"vonage": Provider{Credentials: []string{"application_id", "private_key", "signature_secret"}, Optional: []string(nil), SignedWith: []string{"signature_secret", "previous_signature_secret"}, TextLimit: 1000, WithoutSettings: []string{"help_reply"}}}, Whole: false, Batches: false, Interfaces: []string{"sender", "fetcher"}, LongestCall: 60}, true
	case "telegram":
		return Features{Name: "telegram", Title: "Telegram", Ref: "connection", BodyLimit: 524288, TextLimit: 4096, TextUnit: "utf16", Address: true, ProviderTime: true, IdentityKind: "telegram_user", ExternalID: "[1-9][0-9]{4,15}", Settings: map[string]string{}, Credentials: []string{"bot_token", "secret_token"}, Optional: []string(nil), AppSecrets: []string{}, SignedWith: []string{"secret_token", "previous_secret_token"}, Providers: map[string]Provider(nil), Whole: false, Batches: false, Interfaces: []string{"sender", "fetcher"}, LongestCall: 60}, true
	}
	return Features{}, false
}
