package messenger

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"tributary.dev/libs/channel"
)

// Config of the adapter.
type Config struct {
	// GraphURL is where Meta's Graph API lies; a test or a demo stands in for it.
	GraphURL string `env:"TRIBUTARY_MESSENGER_GRAPH_URL" doc:"Meta's Graph API, or what stands in for it"`
	// GraphVersion of the API; Meta keeps each for about two years.
	GraphVersion string `env:"TRIBUTARY_MESSENGER_GRAPH_VERSION" doc:"the version of the Graph API that is called"`
}

// DefaultConfig is Meta itself.
func DefaultConfig() *Config {
	return &Config{GraphURL: "https://graph.facebook.com", GraphVersion: "v25.0"}
}

var graphVersion = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]$`)

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	var faults []error
	u, err := url.Parse(c.GraphURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		faults = append(faults, errors.New("TRIBUTARY_MESSENGER_GRAPH_URL: must be an absolute http(s) URL"))
	}
	if !graphVersion.MatchString(c.GraphVersion) {
		faults = append(faults, errors.New("TRIBUTARY_MESSENGER_GRAPH_VERSION: must be like v25.0"))
	}
	return errors.Join(faults...)
}

// Adapter of Messenger. It keeps no state: tokens come with each call.
type Adapter struct {
	graphURL string
	http     *http.Client
}

var (
	_ channel.Adapter    = (*Adapter)(nil)
	_ channel.Challenger = (*Adapter)(nil)
	_ channel.Sender     = (*Adapter)(nil)
	_ channel.Fetcher    = (*Adapter)(nil)
)

// New makes the adapter of a valid Config. client makes the calls to Meta: it sets their deadlines.
func New(cfg Config, client *http.Client) *Adapter {
	return &Adapter{graphURL: strings.TrimSuffix(cfg.GraphURL, "/") + "/" + cfg.GraphVersion, http: client}
}

// Name is the channel's name.
func (a *Adapter) Name() string { return "messenger" }
