package connect

import "strings"

// reason is why something is as it is: a word to decide by, and a sentence to read.
type reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// reasonOf is nil for no code.
func reasonOf(code string) *reason {
	if code == "" {
		return nil
	}
	return &reason{code, sentence(code)}
}

// sentence tells a person what a code means. Codes are the provider's own words and ours.
func sentence(code string) string {
	switch code {
	// of authorisations
	case "cancelled":
		return "Access was not granted: whoever was asked said no."
	case "scope_missing":
		return "Not everything that was asked for was granted."
	case "no_accounts":
		return "Nothing was granted that could be connected."
	case "no_bot_token", "no_token", "no_code":
		return "The provider granted nothing to work with."
	case "other_app":
		return "The access is for another app than the one that was asked for."
	case "other_shop":
		return "The answer is of another shop than the one that was asked."
	case "bad_hmac":
		return "The answer was not signed by the provider."
	case "connected_elsewhere":
		return "This account is connected in another workspace."
	case "app_gone":
		return "The app has been deleted meanwhile."
	case "not_subscribed":
		return "The provider did not agree to send the account's events."
	case "no_public_address":
		return "The mesh has no public address that the provider could send events to."
	case "invalid_code", "code_already_used", "code_expired":
		return "The provider does not know the code that it sent."
	case "bad_client_secret", "invalid_client_id", "invalid_client":
		return "The provider does not know the app by the client id and secret that it is registered with here."

	// of connections
	case "timeout":
		return "The provider did not answer in time."
	case "unreachable":
		return "The provider could not be reached."
	case "ratelimited", "http_429":
		return "The provider asks for fewer calls."
	case "other_account":
		return "The credentials are of another account."
	case "not_the_accounts":
		return "The number is not one of this account."
	case "account_suspended", "account_closed":
		return "The provider has suspended or closed the account."
	case "not_public":
		return "The server has no public address, so it was not asked."
	case "no_starttls", "tls":
		return "The server speaks no TLS that can be trusted."
	case "invalid_refresh_token", "invalid_grant":
		return "The provider gives no new credentials for the old ones: connect the account again."
	case "app_uninstalled":
		return "The app was uninstalled at the provider."
	case "deauthorised":
		return "The person who connected the account has taken the app off their own account at the provider."
	case "tokens_revoked", "token_revoked":
		return "The credentials were revoked at the provider."
	case "account_inactive":
		return "The account was deactivated at the provider."
	case "token_expired":
		return "The credentials have ended: connect the account again."
	case "invalid_auth", "not_authed", "token", "190", "20003", "http_401", "10", "smtp_535", "not_a_key":
		return "The provider does not accept the credentials: give new ones, or connect the account again."
	case "http_400", "http_422":
		return "The provider does not take what it was given."
	}
	if strings.HasPrefix(code, "http_5") {
		return "The provider has a fault of its own."
	}
	return "The provider said " + code + "."
}
