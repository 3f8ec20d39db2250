package sms

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// TwilioURL is where Twilio's API lies; a test or a demo stands in for it.
	TwilioURL string `env:"TRIBUTARY_SMS_TWILIO_URL" doc:"Twilio's API, or what stands in for it"`
}

// DefaultConfig is the providers themselves.
func DefaultConfig() *Config { return &Config{TwilioURL: "https://api.twilio.com"} }

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	u, err := url.Parse(c.TwilioURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("TRIBUTARY_SMS_TWILIO_URL: must be an absolute http(s) URL")
	}
	return nil
}

// Adapter of text messages. It keeps no state: credentials come with each call.
type Adapter struct {
	twilio provider
}

var (
	_ channel.Adapter = (*Adapter)(nil)
	_ channel.Sender  = (*Adapter)(nil)
	_ channel.Fetcher = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to providers: it sets their deadlines.
func New(cfg Config, client *http.Client) *Adapter {
	return &Adapter{twilio: &twilio{baseURL: strings.TrimSuffix(cfg.TwilioURL, "/"), http: client}}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "sms" }
