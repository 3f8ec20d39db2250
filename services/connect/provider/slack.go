package provider

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// slackScopes are those of services/slack/manifest.yaml; a test holds them to it.
const slackScopes = "app_mentions:read,channels:history,channels:read,chat:write,chat:write.public,commands,files:read,files:write,groups:history,groups:read,im:history," +
	"metadata.message:read,mpim:history,reactions:read,users:read,users:read.email"

// slackAPI speaks to Slack (https://docs.slack.dev/authentication/installing-with-oauth).
type slackAPI struct {
	url, authorise string
	scopes         []string
	pkce           bool
	http           *http.Client
}

func (s *slackAPI) AuthoriseURL(app App, try Attempt) (string, error) {
	query := url.Values{
		"client_id": {app.ClientID}, "scope": {strings.Join(s.scopes, ",")}, "redirect_uri": {try.RedirectURL}, "state": {try.State},
	}
	if s.pkce {
		query.Set("code_challenge", challenge(try.Verifier))
		query.Set("code_challenge_method", "S256")
	}
	return withQuery(s.authorise, query)
}

// Exchange of a code for a bot's token (https://docs.slack.dev/reference/methods/oauth.v2.access).
func (s *slackAPI) Exchange(ctx context.Context, app App, try Attempt, answer url.Values) ([]Account, error) {
	if err := cancelled(answer); err != nil {
		return nil, err
	}
	options := []slack.OAuthOption{slack.OAuthOptionAPIURL(s.url)}
	if s.pkce {
		options = append(options, slack.OAuthOptionCodeVerifier(try.Verifier))
	}
	granted, err := slack.GetOAuthV2ResponseContext(ctx, s.http, app.ClientID, app.ClientSecret, answer.Get("code"), try.RedirectURL, options...)
	if err != nil {
		return nil, slackError(err)
	}
	a, err := slackAccount(app, granted)
	if err != nil {
		return nil, err
	}
	scopes := words(granted.Scope)
	for _, needed := range s.scopes {
		if !slices.Contains(scopes, needed) {
			return nil, &Fault{Code: "scope_missing"}
		}
	}
	return []Account{a}, nil
}

// slackAccount is the team that a bot was granted, or the organisation (Enterprise Grid).
func slackAccount(app App, granted *slack.OAuthV2Response) (Account, error) {
	a := Account{ExternalID: granted.Team.ID, Name: granted.Team.Name, Credentials: map[string]string{"bot_token": granted.AccessToken}}
	if granted.IsEnterpriseInstall {
		a.ExternalID, a.Name = granted.Enterprise.ID, granted.Enterprise.Name
	}
	switch {
	case granted.TokenType != "bot" || granted.AccessToken == "" || a.ExternalID == "":
		return Account{}, &Fault{Code: "no_bot_token"}
	case app.ExternalID != "" && granted.AppID != app.ExternalID:
		return Account{}, &Fault{Code: "other_app"}
	}
	if granted.RefreshToken != "" {
		a.Refresh, a.Lifetime = granted.RefreshToken, time.Duration(granted.ExpiresIn)*time.Second
	}
	return a, nil
}

// Attach: a Slack app sends the events of every team that has installed it.
func (s *slackAPI) Attach(context.Context, App, Account) error { return nil }

// Check asks who the token is (https://docs.slack.dev/reference/methods/auth.test).
func (s *slackAPI) Check(ctx context.Context, _ App, a Account) error {
	who, err := s.client(a.Credentials["bot_token"]).AuthTestContext(ctx)
	if err != nil {
		return slackError(err)
	}
	for _, id := range []string{who.TeamID, who.EnterpriseID} {
		if id == a.ExternalID {
			return nil
		}
	}
	if who.TeamID == "" {
		return nil
	}
	return &Fault{Code: "other_account", Field: "external_id"}
}

// Refresh rotates a token (https://docs.slack.dev/authentication/using-token-rotation).
func (s *slackAPI) Refresh(ctx context.Context, app App, a Account) (Account, error) {
	granted, err := slack.RefreshOAuthV2TokenContext(ctx, s.http, app.ClientID, app.ClientSecret, a.Refresh, slack.OAuthOptionAPIURL(s.url))
	if err != nil {
		return Account{}, slackError(err)
	}
	fresh, err := slackAccount(app, granted)
	if err == nil && fresh.ExternalID != a.ExternalID {
		err = &Fault{Code: "other_account"}
	}
	return fresh, err
}

// Revoke the token, and what would buy a new one (https://docs.slack.dev/reference/methods/auth.revoke).
func (s *slackAPI) Revoke(ctx context.Context, _ App, a Account) error {
	var errs []error
	for _, token := range []string{a.Refresh, a.Credentials["bot_token"]} {
		if token != "" {
			_, err := s.client(token).SendAuthRevokeContext(ctx, "")
			errs = append(errs, done(slackError(err)))
		}
	}
	return errors.Join(errs...)
}

func (s *slackAPI) client(token string) *slack.Client {
	return slack.New(token, slack.OptionAPIURL(s.url), slack.OptionHTTPClient(s.http))
}

// slackError lets through Slack's own word, never its text.
func slackError(err error) error {
	var refused slack.SlackErrorResponse
	var status slack.StatusCodeError
	var limited *slack.RateLimitedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limited):
		return &Fault{Code: "ratelimited"}
	case errors.As(err, &status):
		return statusFault(status.Code)
	case !errors.As(err, &refused):
		return err
	}
	f := &Fault{Code: word(refused.Err)}
	switch refused.Err {
	case "invalid_auth", "token_revoked", "account_inactive", "token_expired", "not_authed", "invalid_refresh_token":
		f.Void, f.Field = true, "credentials/bot_token"
	}
	return f
}

// challenge of a PKCE verifier (RFC 7636, 4.2).
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func withQuery(address string, query url.Values) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", &Fault{Code: "bad_address"}
	}
	given := u.Query()
	for name, values := range query {
		given[name] = values
	}
	u.RawQuery = given.Encode()
	return u.String(), nil
}
