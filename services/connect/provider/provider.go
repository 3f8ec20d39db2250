package provider

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// App is a registration at a provider, with its secret opened. Never log it.
type App struct {
	ClientID, ClientSecret string
	// ExternalID is the provider's own id of it, where it is known.
	ExternalID string
	// VerifyToken is what channel.Grantor takes; empty where the app has none.
	VerifyToken string
	// WebhookURL is where the provider sends its events; not absolute where the mesh has no public address.
	WebhookURL string
}

// Account is one messaging account. Never log it.
type Account struct {
	// ExternalID and Name as the provider has them.
	ExternalID, Name string
	Settings         map[string]string
	// Credentials that the channel's adapter works with.
	Credentials map[string]string
	// Grantor is who granted it, where the provider tells of a person who withdraws all they granted (see channel.Grantor).
	Grantor string
	// Refresh buys new credentials, where these end Lifetime after they were given; both are empty where they last.
	Refresh  string
	Lifetime time.Duration
}

// Attempt is one try of an account's owner to authorise an app.
type Attempt struct {
	// State comes back with the answer.
	State string
	// Verifier is PKCE's (RFC 7636, 43 characters), for providers that take it.
	Verifier string
	// RedirectURL is where the provider sends the owner's browser back to.
	RedirectURL string
	// Shop is the shop's domain, where the channel has shops.
	Shop string
}

// Checker asks a provider whether credentials work, without any effect there.
type Checker interface {
	// Check is nil where they do. A *Fault with a Field tells what is surely wrong.
	Check(ctx context.Context, app App, a Account) error
}

// Authoriser is a provider with OAuth.
type Authoriser interface {
	// AuthoriseURL is where an account's owner is asked.
	AuthoriseURL(app App, try Attempt) (string, error)
	// Exchange turns the answer that the owner's browser brought into the accounts to choose from.
	Exchange(ctx context.Context, app App, try Attempt, answer url.Values) ([]Account, error)
	// Attach has the provider send the account's events, and is repeatable.
	Attach(ctx context.Context, app App, a Account) error
	// Revoke takes back what was granted. Nil too where it was gone.
	Revoke(ctx context.Context, app App, a Account) error
}

// Refresher is an Authoriser whose credentials may end.
type Refresher interface {
	// Refresh gives new credentials; the old Refresh may be void from then on. A *Fault that is Void: only the
	// account's owner can give new ones.
	Refresh(ctx context.Context, app App, a Account) (Account, error)
}

// Shop is a provider whose accounts have orders and customers. Each call sets the whole of one field, may be repeated, and
// gives what the shop then has. Of faults "http_404" says that it has no such order or customer, "scope_missing" that its
// owner has not granted the change.
type Shop interface {
	// SetOrderNote sets an order's note; "" takes it away.
	SetOrderNote(ctx context.Context, app App, a Account, order uint64, note string) (string, error)
	// SetCustomerTags sets a customer's tags; none may have a comma.
	SetCustomerTags(ctx context.Context, app App, a Account, customer uint64, tags []string) ([]string, error)
}

// Fault is a provider's refusal.
type Fault struct {
	// Code is a word of the provider's vocabulary, or of ours.
	Code string
	// Field of the request that is surely wrong: "credentials/auth_token", "external_id".
	Field string
	// Void: the provider does not take the credentials, and won't without their owner.
	Void bool
	// RetryAfter is how long the provider asks to be left alone; 0: it does not say.
	RetryAfter time.Duration
}

func (f *Fault) Error() string { return "provider: " + f.Code }

// Reason is what an error of this package is called.
func Reason(err error) string {
	var f *Fault
	var network net.Error
	switch {
	case errors.As(err, &f):
		return f.Code
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "unreachable"
}

// Void tells whether an error means that the credentials are.
func Void(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.Void
}

// Wrong is the field that an error says is surely wrong; "": none.
func Wrong(err error) string {
	var f *Fault
	if errors.As(err, &f) {
		return f.Field
	}
	return ""
}

// RetryAfter is how long a provider that said err asks to be left alone; 0: it does not say.
func RetryAfter(err error) time.Duration {
	var f *Fault
	if errors.As(err, &f) {
		return f.RetryAfter
	}
	return 0
}

// Config says where providers lie. Those that an adapter calls too have the adapter's setting, so that whoever stands
// in for a provider does so for both.
type Config struct {
	SlackURL          string `env:"TRIBUTARY_SLACK_API_URL" doc:"Slack's Web API, or what stands in for it; as the slack service has it"`
	SlackAuthoriseURL string `env:"TRIBUTARY_CONNECT_SLACK_AUTHORISE_URL" doc:"where the owner of a Slack workspace is asked"`
	SlackScopes       string `env:"TRIBUTARY_CONNECT_SLACK_SCOPES" doc:"bot scopes that a Slack workspace is asked for, and must grant; as the app's manifest has them"`
	SlackPKCE         bool   `env:"TRIBUTARY_CONNECT_SLACK_PKCE" doc:"use PKCE with Slack: for apps that have it enabled, which makes them public clients for good"`

	GraphURL     string `env:"TRIBUTARY_MESSENGER_GRAPH_URL" doc:"Meta's Graph API, or what stands in for it; as the messenger service has it"`
	GraphVersion string `env:"TRIBUTARY_MESSENGER_GRAPH_VERSION" doc:"the version of the Graph API that is called; as the messenger service has it"`
	FacebookURL  string `env:"TRIBUTARY_CONNECT_FACEBOOK_URL" doc:"Facebook, where the owner of a Page is asked"`

	ShopURL        string `env:"TRIBUTARY_SHOPIFY_URL" doc:"the shops, or what stands in for them; {shop} in it is replaced by the shop's domain; as the shopify service has it"`
	ShopAPIVersion string `env:"TRIBUTARY_SHOPIFY_API_VERSION" doc:"version of Shopify's Admin API; as the shopify service has it"`
	ShopScopes     string `env:"TRIBUTARY_CONNECT_SHOPIFY_SCOPES" doc:"access scopes that a shop is asked for, and must grant"`

	TwilioURL       string `env:"TRIBUTARY_SMS_TWILIO_URL" doc:"Twilio's API, or what stands in for it; as the sms service has it"`
	VonageURL       string `env:"TRIBUTARY_SMS_VONAGE_URL" doc:"Vonage's API, or what stands in for it; as the sms service has it"`
	TelegramURL     string `env:"TRIBUTARY_TELEGRAM_API_URL" doc:"Telegram's Bot API, or what stands in for it; as the telegram service has it"`
	PostmarkURL     string `env:"TRIBUTARY_EMAIL_POSTMARK_URL" doc:"Postmark's API, or what stands in for it; as the email service has it"`
	MailAuthorities string `env:"TRIBUTARY_EMAIL_SMTP_AUTHORITIES" doc:"a PEM file of authorities that submission servers' certificates may be of, beside the system's; as the email service has it"`
}

// Defaults are the providers themselves.
func Defaults() Config {
	return Config{
		SlackURL: "https://slack.com/api/", SlackAuthoriseURL: "https://slack.com/oauth/v2/authorize", SlackScopes: slackScopes,
		GraphURL: "https://graph.facebook.com", GraphVersion: "v25.0", FacebookURL: "https://www.facebook.com",
		ShopURL: "https://{shop}", ShopAPIVersion: "2026-10", ShopScopes: shopScopes,
		TwilioURL: "https://api.twilio.com", VonageURL: "https://api.nexmo.com", TelegramURL: "https://api.telegram.org", PostmarkURL: "https://api.postmarkapp.com",
	}
}

// Validate joins all faults, each naming its setting.
func (c Config) Validate() error {
	var faults []error
	for setting, address := range map[string]string{
		"TRIBUTARY_SLACK_API_URL": c.SlackURL, "TRIBUTARY_CONNECT_SLACK_AUTHORISE_URL": c.SlackAuthoriseURL,
		"TRIBUTARY_MESSENGER_GRAPH_URL": c.GraphURL, "TRIBUTARY_CONNECT_FACEBOOK_URL": c.FacebookURL,
		"TRIBUTARY_SMS_TWILIO_URL": c.TwilioURL, "TRIBUTARY_SMS_VONAGE_URL": c.VonageURL, "TRIBUTARY_EMAIL_POSTMARK_URL": c.PostmarkURL,
		"TRIBUTARY_TELEGRAM_API_URL": c.TelegramURL,
	} {
		if !absolute(address) {
			faults = append(faults, errors.New(setting+": must be an absolute http(s) URL"))
		}
	}
	if !absolute(strings.ReplaceAll(c.ShopURL, "{shop}", "shop")) {
		faults = append(faults, errors.New("TRIBUTARY_SHOPIFY_URL: must be an absolute http(s) URL"))
	}
	if !shopVersion.MatchString(c.ShopAPIVersion) {
		faults = append(faults, errors.New("TRIBUTARY_SHOPIFY_API_VERSION: must be a version (2026-10)"))
	}
	if !graphVersion.MatchString(c.GraphVersion) {
		faults = append(faults, errors.New("TRIBUTARY_MESSENGER_GRAPH_VERSION: must be a version (v25.0)"))
	}
	if _, err := authorities(c.MailAuthorities); err != nil {
		faults = append(faults, errors.New("TRIBUTARY_EMAIL_SMTP_AUTHORITIES: must be a file of certificates (PEM)"))
	}
	return errors.Join(faults...)
}

func absolute(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// Providers are those that connect can speak to.
type Providers struct {
	all map[string]any
}

// New makes them of a valid Config. client makes the calls, with a Transport of its own; allowed are addresses that a mail server may have beside
// public ones.
func New(cfg Config, client *http.Client, allowed []netip.Prefix) (*Providers, error) {
	api := caller{client}
	roots, err := authorities(cfg.MailAuthorities)
	if err != nil {
		return nil, err
	}
	marked := &postmark{url: strings.TrimSuffix(cfg.PostmarkURL, "/"), api: api}
	graph, facebook := strings.TrimSuffix(cfg.GraphURL, "/"), strings.TrimSuffix(cfg.FacebookURL, "/")
	return &Providers{map[string]any{
		"slack": &slackAPI{
			url: strings.TrimSuffix(cfg.SlackURL, "/") + "/", authorise: cfg.SlackAuthoriseURL, scopes: words(cfg.SlackScopes), pkce: cfg.SlackPKCE,
			http: client,
		},
		"telegram":       &telegram{url: strings.TrimSuffix(cfg.TelegramURL, "/"), api: api},
		"messenger":      &messenger{graph: graph + "/" + cfg.GraphVersion, dialog: facebook + "/" + cfg.GraphVersion + "/dialog/oauth", api: api},
		"shopify":        &shopify{url: strings.TrimSuffix(cfg.ShopURL, "/"), version: cfg.ShopAPIVersion, scopes: words(cfg.ShopScopes), http: client, api: api},
		"sms":            &twilio{url: strings.TrimSuffix(cfg.TwilioURL, "/"), api: api},
		"sms/vonage":     &vonage{url: strings.TrimSuffix(cfg.VonageURL, "/"), api: api, now: time.Now},
		"email":          marked,
		"email/postmark": marked,
		"email/smtp":     newMailServer(allowed, roots),
	}}, nil
}

// Of is the provider of a channel's connection with these settings; nil where there is none here. It may be a Checker,
// an Authoriser, a Refresher and a Shop.
func (p *Providers) Of(channel string, settings map[string]string) any {
	if chosen := settings["provider"]; chosen != "" {
		if one, ok := p.all[channel+"/"+chosen]; ok {
			return one
		}
	}
	return p.all[channel]
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
