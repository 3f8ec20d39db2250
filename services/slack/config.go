package slack

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slack-go/slack"
	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// APIURL is where Slack's Web API lies; a test or a demo stands in for it.
	APIURL string `env:"TRIBUTARY_SLACK_API_URL" doc:"Slack's Web API, or what stands in for it"`
}

// DefaultConfig is Slack itself.
func DefaultConfig() *Config { return &Config{APIURL: slack.APIURL} }

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	u, err := url.Parse(c.APIURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("TRIBUTARY_SLACK_API_URL: must be an absolute http(s) URL")
	}
	return nil
}

// Adapter of Slack. It keeps no state: tokens come with each call.
type Adapter struct {
	apiURL string
	http   *http.Client
	// shareWaits are the pauses before each look for the message that an uploaded file became.
	shareWaits []time.Duration
}

var (
	_ channel.Adapter    = (*Adapter)(nil)
	_ channel.Challenger = (*Adapter)(nil)
	_ channel.Sender     = (*Adapter)(nil)
	_ channel.Fetcher    = (*Adapter)(nil)
	_ channel.Locator    = (*Adapter)(nil)
	_ channel.Timed      = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to Slack: it sets their deadlines.
func New(cfg Config, client *http.Client) *Adapter {
	return &Adapter{
		apiURL:     strings.TrimSuffix(cfg.APIURL, "/") + "/",
		http:       client,
		shareWaits: []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second},
	}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "slack" }

// client speaks for one connection. It never retries: what may be called again is the mesh's decision.
func (a *Adapter) client(conn *channel.Connection) *slack.Client {
	return slack.New(conn.Credentials["bot_token"], slack.OptionAPIURL(a.apiURL), slack.OptionHTTPClient(a.http))
}
