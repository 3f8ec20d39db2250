package shopify

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// URL is where the shops' Admin API lies.
	URL string `env:"TRIBUTARY_SHOPIFY_URL" doc:"the shops' Admin API, or what stands in for it; {shop} in it is replaced by the shop's domain"`
	// APIVersion that orders are asked for in; webhooks come in the one that they were registered with.
	APIVersion string `env:"TRIBUTARY_SHOPIFY_API_VERSION" doc:"version of the Admin API that orders are asked for in"`
	// PollEvery is how often a shop is asked.
	PollEvery time.Duration `env:"TRIBUTARY_SHOPIFY_POLL_EVERY" doc:"how often each shop is asked for orders whose webhook may never have come"`
}

// DefaultConfig is Shopify itself.
func DefaultConfig() *Config {
	return &Config{URL: "https://{shop}", APIVersion: "2026-10", PollEvery: 10 * time.Minute}
}

var (
	apiVersion = regexp.MustCompile(`^20[0-9]{2}-[01][0-9]$`)
	shopDomain = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*\.myshopify\.com$`)
)

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	var faults []error
	u, err := url.Parse(c.address("a.myshopify.com"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		faults = append(faults, errors.New("TRIBUTARY_SHOPIFY_URL: must be an absolute http(s) URL"))
	}
	if !apiVersion.MatchString(c.APIVersion) {
		faults = append(faults, errors.New("TRIBUTARY_SHOPIFY_API_VERSION: must be a version, as 2026-10"))
	}
	if c.PollEvery < time.Second {
		faults = append(faults, errors.New("TRIBUTARY_SHOPIFY_POLL_EVERY: must be at least 1s"))
	}
	return errors.Join(faults...)
}

func (c *Config) address(shop string) string {
	return strings.TrimSuffix(strings.ReplaceAll(c.URL, "{shop}", shop), "/")
}

// Adapter of Shopify. It keeps no state: tokens come with each call.
type Adapter struct {
	cfg  Config
	http *http.Client
	// wait for a while or until the context ends.
	wait func(ctx context.Context, d time.Duration)
	now  func() time.Time
}

var (
	_ channel.Adapter = (*Adapter)(nil)
	_ channel.Poller  = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to Shopify: it sets their deadlines. Redirects are
// not followed: they would take the token along.
func New(cfg Config, client *http.Client) *Adapter {
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Adapter{cfg: cfg, http: &direct, wait: wait, now: time.Now}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "shopify" }
