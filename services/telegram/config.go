package telegram

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// APIURL is where Telegram's Bot API lies; a test or a demo stands in for it.
	APIURL string `env:"TRIBUTARY_TELEGRAM_API_URL" doc:"Telegram's Bot API, or what stands in for it"`
}

// DefaultConfig is Telegram itself.
func DefaultConfig() *Config { return &Config{APIURL: "https://api.telegram.org"} }

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	u, err := url.Parse(c.APIURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("TRIBUTARY_TELEGRAM_API_URL: must be an absolute http(s) URL")
	}
	return nil
}

// Adapter of Telegram. It keeps no state: credentials come with each call.
type Adapter struct {
	apiURL string
	http   *http.Client
}

var (
	_ channel.Adapter = (*Adapter)(nil)
	_ channel.Sender  = (*Adapter)(nil)
	_ channel.Fetcher = (*Adapter)(nil)
	_ channel.Locator = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to Telegram: it sets their deadlines.
func New(cfg Config, client *http.Client) *Adapter {
	return &Adapter{apiURL: strings.TrimSuffix(cfg.APIURL, "/"), http: client}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "telegram" }
