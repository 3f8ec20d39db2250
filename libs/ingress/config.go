package ingress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"
)

// Config of an Ingress.
type Config struct {
	// DataDir is the adapter's volume; the spool is DataDir/spool.
	DataDir string
	// PublicURL is where providers reach the mesh, with the path that a proxy takes off; empty: as the
	// request says.
	PublicURL string
	// TrustedProxies are CIDRs whose X-Forwarded-Proto and X-Forwarded-Host are believed.
	TrustedProxies []string
	// MaxRequests at once, whose bodies have come; more are answered 503.
	MaxRequests int
	// BodyBytes that the bodies of all requests may take, those that are still coming included; a request that finds
	// none left is answered 503.
	BodyBytes int64
	// RegistryBudget, PublishBudget and ConfirmBudget bound what a request waits for.
	RegistryBudget, PublishBudget, ConfirmBudget time.Duration
	// BreakerPause is how long a breaker stays open before one request probes.
	BreakerPause time.Duration
	// SpoolBytes bounds the spool, what was set aside included.
	SpoolBytes int64
	// SpoolLag is how old the oldest entry may be before requests are refused.
	SpoolLag time.Duration
	// DrainTimeout bounds each call that the drain makes; DrainPause its longest wait after a fault.
	DrainTimeout, DrainPause time.Duration
}

const (
	maxRequests = 512
	// bodyMemory is what the bodies of all requests may take, as long as 4 of the largest fit.
	//bound:limit bodies of a channel's webhooks, those included that still come | {bytes}, or four of the largest | 503
	bodyMemory = 128 << 20
)

// Defaults for a channel whose bodies are at most bodyLimit.
func Defaults(dataDir string, bodyLimit int64) Config {
	return Config{
		DataDir:        dataDir,
		MaxRequests:    maxRequests,
		BodyBytes:      max(bodyMemory, 4*bodyLimit),
		RegistryBudget: 400 * time.Millisecond,
		PublishBudget:  1200 * time.Millisecond,
		ConfirmBudget:  800 * time.Millisecond,
		BreakerPause:   time.Second,
		SpoolBytes:     1 << 30,
		SpoolLag:       7 * 24 * time.Hour,
		DrainTimeout:   10 * time.Second,
		DrainPause:     2 * time.Second, // what is spooled is shown that much later, and an attempt costs little
	}
}

// Validate joins all faults and names the settings.
func (c Config) Validate() error {
	var faults []error
	check := func(ok bool, setting, must string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s: must %s", setting, must))
		}
	}
	check(c.DataDir != "", "DataDir", "name a folder")
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		check(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), "PublicURL", "be an http:// or https:// address")
	}
	for _, cidr := range c.TrustedProxies {
		_, err := netip.ParsePrefix(cidr)
		check(err == nil, "TrustedProxies", "be CIDRs (10.0.0.0/8)")
	}
	check(c.MaxRequests > 0, "MaxRequests", "be at least 1")
	check(c.BodyBytes > 0, "BodyBytes", "be at least 1")
	check(c.SpoolBytes > 0, "SpoolBytes", "be at least 1")
	for setting, d := range map[string]time.Duration{
		"RegistryBudget": c.RegistryBudget, "PublishBudget": c.PublishBudget,
		"ConfirmBudget": c.ConfirmBudget, "BreakerPause": c.BreakerPause, "SpoolLag": c.SpoolLag,
		"DrainTimeout": c.DrainTimeout, "DrainPause": c.DrainPause,
	} {
		check(d > 0, setting, "be more than 0")
	}
	return errors.Join(faults...)
}
