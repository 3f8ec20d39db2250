package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/seal"
)

// Common settings that every service has.
type Common struct {
	Listen      string        `env:"TRIBUTARY_LISTEN" doc:"address that HTTP is served on"`
	Data        string        `env:"TRIBUTARY_DATA" doc:"folder for what must outlive the process"`
	Secret      string        `env:"TRIBUTARY_SECRET" doc:"at least 32 characters that a service's replicas share; empty: made once and kept in the data folder"`
	StopTimeout time.Duration `env:"TRIBUTARY_STOP_TIMEOUT" doc:"how long stopping may take"`
	StopDelay   time.Duration `env:"TRIBUTARY_STOP_DELAY" doc:"how long a process that is told to stop still serves, while /readyz says that it stops: whatever routes to it must have heard by then"`
	MaxRequests int           `env:"TRIBUTARY_MAX_REQUESTS" doc:"HTTP requests under way at once; more are answered 503. Twice as many connections may be open; more wait"`
	ClockOffset time.Duration `env:"TRIBUTARY_CLOCK_OFFSET" doc:"added to this machine's clock: for tests of clocks that are wrong"`

	Kafka    KafkaSettings    `envPrefix:"TRIBUTARY_KAFKA_"`
	Registry RegistrySettings `envPrefix:"TRIBUTARY_REGISTRY_"`

	DatabaseURL string `env:"TRIBUTARY_DATABASE_URL" doc:"postgres://…, with {name} where the database's name goes if the service has several; empty: SQLite files in the data folder"`
	// PublicURL is where providers reach the mesh; empty when they can't.
	PublicURL string `env:"TRIBUTARY_PUBLIC_URL" doc:"where providers reach the mesh (https://…); empty: they can't"`
	// KeeperURL seals provider credentials. {channel} in it is replaced by the channel's name.
	KeeperURL string `env:"TRIBUTARY_KEEPER_URL" doc:"gocloud.dev/secrets keeper of provider credentials; {channel} in it stands for the channel"`
	// BucketURL holds attachments.
	BucketURL string `env:"TRIBUTARY_BUCKET_URL" doc:"gocloud.dev/blob bucket for attachments"`
	// TrustedProxies are CIDRs whose X-Forwarded-* are believed.
	TrustedProxies []string `env:"TRIBUTARY_TRUSTED_PROXIES" doc:"CIDRs whose X-Forwarded-* headers are believed"`
	// CacheTTL of plain data keys.
	CacheTTL time.Duration `env:"TRIBUTARY_CACHE_TTL" doc:"how long a plain data key may stay in memory"`

	// What adapters, and the conversation service that waits for them, must hold alike.
	SendLate        time.Duration `env:"TRIBUTARY_SEND_LATE" doc:"how long after its command was published a call to a provider may still begin"`
	SendLongestCall time.Duration `env:"TRIBUTARY_SEND_LONGEST_CALL" doc:"bounds one call to a provider; 0: the channel's own"`
	MediaAllow      []string      `env:"TRIBUTARY_MEDIA_ALLOW" doc:"CIDRs that attachments may be fetched from, and mail submitted to, beside public addresses: for stand-ins of providers"`
	SpoolBytes      int64         `env:"TRIBUTARY_SPOOL_BYTES" doc:"bounds an adapter's spool; above it webhooks are answered 503"`
	PollBack        time.Duration `env:"TRIBUTARY_POLL_BACK" doc:"how far back a connection is asked, that never was before, for what its webhooks may have failed to tell; for channels that can be asked"`

	OTLPEndpoint string  `env:"TRIBUTARY_OTLP_ENDPOINT" doc:"where traces go by OTLP (http:// or https://); empty: nowhere"`
	TraceFile    string  `env:"TRIBUTARY_TRACE_FILE" doc:"file that spans are appended to as JSON lines"`
	TraceRatio   float64 `env:"TRIBUTARY_TRACE_RATIO" doc:"share of traces kept"`
	LogLevel     string  `env:"TRIBUTARY_LOG_LEVEL" doc:"debug, info, warn or error"`

	ProfileListen string `env:"TRIBUTARY_PROFILE_LISTEN" doc:"address that Go's profiles are served on, below /debug/pprof/, to anybody who reaches it; empty: nowhere"`
}

// KafkaSettings say how to reach the brokers.
type KafkaSettings struct {
	Brokers       []string      `env:"BROKERS" doc:"host:port, comma-separated"`
	Prefix        string        `env:"PREFIX" doc:"stands before every topic and group name"`
	Partitions    int           `env:"PARTITIONS" doc:"of topics that are created"`
	Heartbeat     time.Duration `env:"HEARTBEAT" doc:"how often a consumer hears whether others come or go: longer costs less while idle, and lets their partitions stand still for so long"`
	TLS           bool          `env:"TLS" doc:"speak TLS to the brokers"`
	TLSCA         string        `env:"TLS_CA" doc:"file with further roots"`
	TLSCert       string        `env:"TLS_CERT" doc:"file with the client's certificate"`
	TLSKey        string        `env:"TLS_KEY" doc:"file with the client's key"`
	TLSServerName string        `env:"TLS_SERVER_NAME" doc:"name the brokers' certificate must have"`
	SASLMechanism string        `env:"SASL_MECHANISM" doc:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: none"`
	SASLUsername  string        `env:"SASL_USERNAME" doc:"user of the brokers"`
	SASLPassword  string        `env:"SASL_PASSWORD" doc:"the user's password"`
}

// RegistrySettings say how to reach the key registry, and, for the service that has it, where to serve it.
type RegistrySettings struct {
	Address       string        `env:"ADDRESS" doc:"host:port of the key registry"`
	Listen        string        `env:"LISTEN" doc:"address that the key registry is served on, by the service that has it"`
	Token         string        `env:"TOKEN" doc:"this service's token at the key registry"`
	Timeout       time.Duration `env:"TIMEOUT" doc:"of one call"`
	TLS           bool          `env:"TLS" doc:"speak TLS to the key registry"`
	TLSCA         string        `env:"TLS_CA" doc:"file with further roots"`
	TLSCert       string        `env:"TLS_CERT" doc:"file with this service's certificate, which then is its identity"`
	TLSKey        string        `env:"TLS_KEY" doc:"file with the certificate's key"`
	TLSServerName string        `env:"TLS_SERVER_NAME" doc:"name the registry's certificate must have"`
}

// Defaults are what the common settings are where the environment says nothing.
func Defaults() Common {
	return Common{
		Listen:      ":8080",
		Data:        ".tributary",
		StopTimeout: 25 * time.Second,
		StopDelay:   3 * time.Second,
		MaxRequests: 4096,
		Kafka:       KafkaSettings{Brokers: []string{"127.0.0.1:9092"}, Prefix: "tributary.", Partitions: 32, Heartbeat: 100 * time.Millisecond},
		Registry:    RegistrySettings{Address: "127.0.0.1:7070", Listen: "127.0.0.1:7070", Timeout: 2 * time.Second},
		CacheTTL:    45 * time.Second,
		SendLate:    5 * time.Minute,
		SpoolBytes:  1 << 30,
		PollBack:    24 * time.Hour,
		TraceRatio:  1,
		LogLevel:    "info",
	}
}

// Validate joins all faults, each naming its setting.
func (c *Common) Validate() error {
	var faults []error
	fault := func(setting, format string, args ...any) {
		faults = append(faults, fmt.Errorf(setting+": "+format, args...))
	}
	address := func(setting, value string) {
		_, port, err := net.SplitHostPort(value)
		if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil {
			fault(setting, "must be host:port")
		}
	}
	link := func(setting, value string) {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			fault(setting, "must be an http:// or https:// address")
		}
	}
	pair := func(setting, a, b string) {
		if (a == "") != (b == "") {
			fault(setting, "certificate and key go together")
		}
	}
	address("TRIBUTARY_LISTEN", c.Listen)
	if c.ProfileListen != "" {
		address("TRIBUTARY_PROFILE_LISTEN", c.ProfileListen)
	}
	if c.Data == "" {
		fault("TRIBUTARY_DATA", "must name a folder")
	}
	if c.Secret != "" && len(c.Secret) < 32 {
		fault("TRIBUTARY_SECRET", "must have at least 32 characters")
	}
	if c.StopTimeout <= 0 {
		fault("TRIBUTARY_STOP_TIMEOUT", "must be more than 0")
	}
	if c.StopDelay < 0 || c.StopDelay >= c.StopTimeout {
		fault("TRIBUTARY_STOP_DELAY", "must not be negative, and less than TRIBUTARY_STOP_TIMEOUT")
	}
	if c.MaxRequests < 1 {
		fault("TRIBUTARY_MAX_REQUESTS", "must be at least 1")
	}
	if len(c.Kafka.Brokers) == 0 {
		fault("TRIBUTARY_KAFKA_BROKERS", "must name at least one broker")
	}
	for _, b := range c.Kafka.Brokers {
		address("TRIBUTARY_KAFKA_BROKERS", b)
	}
	if c.Kafka.Partitions < 1 {
		fault("TRIBUTARY_KAFKA_PARTITIONS", "must be at least 1")
	}
	if c.Kafka.Heartbeat < 10*time.Millisecond || c.Kafka.Heartbeat > 5*time.Second {
		fault("TRIBUTARY_KAFKA_HEARTBEAT", "must be from 10ms to 5s")
	}
	switch c.Kafka.SASLMechanism {
	case "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	default:
		fault("TRIBUTARY_KAFKA_SASL_MECHANISM", "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	}
	pair("TRIBUTARY_KAFKA_TLS_CERT", c.Kafka.TLSCert, c.Kafka.TLSKey)
	pair("TRIBUTARY_REGISTRY_TLS_CERT", c.Registry.TLSCert, c.Registry.TLSKey)
	address("TRIBUTARY_REGISTRY_ADDRESS", c.Registry.Address)
	address("TRIBUTARY_REGISTRY_LISTEN", c.Registry.Listen)
	if c.Registry.Timeout <= 0 {
		fault("TRIBUTARY_REGISTRY_TIMEOUT", "must be more than 0")
	}
	if c.CacheTTL <= 0 || c.CacheTTL > maxCacheTTL {
		fault("TRIBUTARY_CACHE_TTL", "must be more than 0 and at most %s: erasing counts on it", maxCacheTTL)
	}
	if u := c.DatabaseURL; u != "" && !strings.HasPrefix(u, "postgres://") && !strings.HasPrefix(u, "postgresql://") && !strings.HasPrefix(u, "sqlite:") {
		fault("TRIBUTARY_DATABASE_URL", "must begin with postgres:// or sqlite:")
	}
	link("TRIBUTARY_PUBLIC_URL", c.PublicURL)
	link("TRIBUTARY_OTLP_ENDPOINT", c.OTLPEndpoint)
	for setting, cidrs := range map[string][]string{"TRIBUTARY_TRUSTED_PROXIES": c.TrustedProxies, "TRIBUTARY_MEDIA_ALLOW": c.MediaAllow} {
		for _, cidr := range cidrs {
			if _, err := netip.ParsePrefix(cidr); err != nil {
				fault(setting, "must be CIDRs (10.0.0.0/8)")
			}
		}
	}
	if c.SendLate <= 0 || c.SendLongestCall < 0 {
		fault("TRIBUTARY_SEND_LATE", "must be more than 0, and TRIBUTARY_SEND_LONGEST_CALL not negative")
	}
	if c.PollBack < 0 {
		fault("TRIBUTARY_POLL_BACK", "must not be negative")
	}
	if c.SpoolBytes < 1<<20 {
		fault("TRIBUTARY_SPOOL_BYTES", "must be at least 1048576")
	}
	if err := c.openTraceFile(); err != nil {
		fault("TRIBUTARY_TRACE_FILE", "can't be written: %w", err)
	}
	if c.TraceRatio < 0 || c.TraceRatio > 1 {
		fault("TRIBUTARY_TRACE_RATIO", "must be from 0 to 1")
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		fault("TRIBUTARY_LOG_LEVEL", "must be debug, info, warn or error")
	}
	return errors.Join(faults...)
}

// openTraceFile tries what the process will do. The data folder may not be there yet: it is made at the start.
func (c *Common) openTraceFile() error {
	if c.TraceFile == "" {
		return nil
	}
	f, err := os.OpenFile(c.TraceFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(c.TraceFile) == filepath.Clean(c.Data) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// maxCacheTTL: a certificate says that a person is unreadable everywhere within a minute.
const maxCacheTTL = 45 * time.Second

// Keeper is the keeper's URL of a channel.
func (c *Common) Keeper(channel string) string {
	return strings.ReplaceAll(c.KeeperURL, "{channel}", channel)
}

// Bus is how the brokers are reached.
func (c *Common) Bus(clientID string) bus.Config {
	k := c.Kafka
	return bus.Config{
		Brokers: k.Brokers, Prefix: k.Prefix, ClientID: clientID, Partitions: k.Partitions, Heartbeat: k.Heartbeat,
		TLS:  bus.TLS{Enabled: k.TLS, CAFile: k.TLSCA, CertFile: k.TLSCert, KeyFile: k.TLSKey, ServerName: k.TLSServerName},
		SASL: bus.SASL{Mechanism: k.SASLMechanism, Username: k.SASLUsername, Password: k.SASLPassword},
	}
}

func (c *Common) seal() seal.Config {
	r := c.Registry
	return seal.Config{
		Address: r.Address, Token: r.Token, TTL: c.CacheTTL, Timeout: r.Timeout,
		TLS: seal.TLS{Enabled: r.TLS, CAFile: r.TLSCA, CertFile: r.TLSCert, KeyFile: r.TLSKey, ServerName: r.TLSServerName},
	}
}
