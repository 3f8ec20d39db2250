package sms

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// TwilioURL and VonageURL are where the providers' APIs lie; a test or a demo stands in for them.
	TwilioURL string `env:"TRIBUTARY_SMS_TWILIO_URL" doc:"Twilio's API, or what stands in for it"`
	VonageURL string `env:"TRIBUTARY_SMS_VONAGE_URL" doc:"Vonage's API (of a region: https://api-eu.nexmo.com), or what stands in for it"`
}

// DefaultConfig is the providers themselves.
func DefaultConfig() *Config {
	return &Config{TwilioURL: "https://api.twilio.com", VonageURL: "https://api.nexmo.com"}
}

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	return errors.Join(absolute("TRIBUTARY_SMS_TWILIO_URL", c.TwilioURL), absolute("TRIBUTARY_SMS_VONAGE_URL", c.VonageURL))
}

func absolute(setting, value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New(setting + ": must be an absolute http(s) URL")
	}
	return nil
}

// Adapter of text messages. It keeps no state: credentials come with each call.
type Adapter struct {
	twilio, vonage provider
}

var (
	_ channel.Adapter = (*Adapter)(nil)
	_ channel.Sender  = (*Adapter)(nil)
	_ channel.Fetcher = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to providers: it sets their deadlines.
func New(cfg Config, client *http.Client) *Adapter {
	return &Adapter{
		twilio: &twilio{baseURL: strings.TrimSuffix(cfg.TwilioURL, "/"), http: client},
		vonage: &vonage{baseURL: strings.TrimSuffix(cfg.VonageURL, "/"), http: client, now: time.Now},
	}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "sms" }
