// Code generated from services/*/channel.yaml by make generate. DO NOT EDIT.

package channel

// Names of the channels there are, sorted.
func Names() []string {
	return []string{"slack", "sms"}
}

// Lookup gives the features of a channel.
func Lookup(name string) (Features, bool) {
	switch name {
	case "slack":
		return Features{Name: "slack", Title: "Slack", Ref: "app", BodyLimit: 524288, TextLimit: 4000, TextUnit: "characters", Address: false, ProviderTime: true, IdentityKind: "slack_user", Credentials: []string{"bot_token"}, AppSecrets: []string{"signing_secret"}, SignedWith: []string(nil), Interfaces: []string{"challenger", "sender", "fetcher", "timed"}, LongestCall: 60}, true
	case "sms":
		return Features{Name: "sms", Title: "SMS", Ref: "connection", BodyLimit: 524288, TextLimit: 1600, TextUnit: "characters", Address: true, ProviderTime: false, IdentityKind: "phone", Credentials: []string{"account_sid", "auth_token"}, AppSecrets: []string{}, SignedWith: []string{"auth_token", "previous_auth_token"}, Interfaces: []string{"sender", "fetcher"}, LongestCall: 60}, true
	}
	return Features{}, false
}
