package standalone

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
)

// bad settings of the common part, and what is told of each.
var bad = map[string]string{
	"TRIBUTARY_STOP_TIMEOUT=soon":             "TRIBUTARY_STOP_TIMEOUT: must be a duration",
	"TRIBUTARY_STOP_DELAY=1h":                 "TRIBUTARY_STOP_DELAY: must not be negative, and less than",
	"TRIBUTARY_MAX_REQUESTS=-1":               "TRIBUTARY_MAX_REQUESTS: must be at least 1",
	"TRIBUTARY_SECRET=canary-short":           "TRIBUTARY_SECRET: must have at least 32 characters",
	"TRIBUTARY_PUBLIC_URL=canary":             "TRIBUTARY_PUBLIC_URL: must be an http",
	"TRIBUTARY_CACHE_TTL=1h":                  "TRIBUTARY_CACHE_TTL: must be more than 0 and at most 45s",
	"TRIBUTARY_TRUSTED_PROXIES=canary":        "TRIBUTARY_TRUSTED_PROXIES: must be CIDRs",
	"TRIBUTARY_LOG_LEVEL=loud":                "TRIBUTARY_LOG_LEVEL: must be debug",
	"TRIBUTARY_TRACE_RATIO=7":                 "TRIBUTARY_TRACE_RATIO: must be from 0 to 1",
	"TRIBUTARY_TRACE_FILE=/no/canary/traces":  "TRIBUTARY_TRACE_FILE: can't be written",
	"TRIBUTARY_POLL_BACK=-1h":                 "TRIBUTARY_POLL_BACK: must not be negative",
	"TRIBUTARY_SPOOL_BYTES=few":               "TRIBUTARY_SPOOL_BYTES: must be a whole number",
	"TRIBUTARY_OTLP_ENDPOINT_FILE=/no/canary": "TRIBUTARY_OTLP_ENDPOINT_FILE: open",
}

// ownBad are those of one service, of what it needs and what is its own.
var ownBad = map[string]map[string]string{
	"shopify": {
		"TRIBUTARY_KEEPER_URL=":                "TRIBUTARY_KEEPER_URL: is required",
		"TRIBUTARY_BUCKET_URL=":                "TRIBUTARY_BUCKET_URL: is required",
		"TRIBUTARY_REGISTRY_TOKEN=":            "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_SHOPIFY_URL=ftp://canary":   "TRIBUTARY_SHOPIFY_URL: must be an absolute",
		"TRIBUTARY_SHOPIFY_API_VERSION=canary": "TRIBUTARY_SHOPIFY_API_VERSION: must be a version",
		"TRIBUTARY_SHOPIFY_POLL_EVERY=1ms":     "TRIBUTARY_SHOPIFY_POLL_EVERY: must be at least 1s",
	},
	"slack": {
		"TRIBUTARY_KEEPER_URL=base64key://canary": "TRIBUTARY_KEEPER_URL: base64key:// must hold 32 bytes",
		"TRIBUTARY_BUCKET_URL=ftp://canary":       "TRIBUTARY_BUCKET_URL: is of no kind that is linked in (file",
		"TRIBUTARY_REGISTRY_TOKEN=":               "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_SLACK_API_URL=canary":          "TRIBUTARY_SLACK_API_URL: must be an absolute",
	},
	"messenger": {
		"TRIBUTARY_KEEPER_URL=":                         "TRIBUTARY_KEEPER_URL: is required",
		"TRIBUTARY_BUCKET_URL=":                         "TRIBUTARY_BUCKET_URL: is required",
		"TRIBUTARY_REGISTRY_TOKEN=":                     "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_MESSENGER_GRAPH_URL=ftp://canary":    "TRIBUTARY_MESSENGER_GRAPH_URL: must be an absolute",
		"TRIBUTARY_MESSENGER_GRAPH_VERSION=canary/../x": "TRIBUTARY_MESSENGER_GRAPH_VERSION: must be like",
	},
	"email": {
		"TRIBUTARY_KEEPER_URL=":                       "TRIBUTARY_KEEPER_URL: is required",
		"TRIBUTARY_BUCKET_URL=":                       "TRIBUTARY_BUCKET_URL: is required",
		"TRIBUTARY_REGISTRY_TOKEN=":                   "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_EMAIL_POSTMARK_URL=ftp://canary":   "TRIBUTARY_EMAIL_POSTMARK_URL: must be an absolute",
		"TRIBUTARY_EMAIL_SMTP_ADDRESS=canary":         "TRIBUTARY_EMAIL_SMTP_ADDRESS: must be host:port",
		"TRIBUTARY_EMAIL_SMTP_HOSTNAME=canary canary": "TRIBUTARY_EMAIL_SMTP_HOSTNAME: must be a host's name",
		"TRIBUTARY_EMAIL_SMTP_CERTIFICATE=/no/canary": "TRIBUTARY_EMAIL_SMTP_CERTIFICATE and TRIBUTARY_EMAIL_SMTP_KEY: both",
		"TRIBUTARY_EMAIL_SMTP_CONNECTIONS=0":          "TRIBUTARY_EMAIL_SMTP_CONNECTIONS: must be above 0",
		"TRIBUTARY_EMAIL_SMTP_LMTP=perhaps":           "TRIBUTARY_EMAIL_SMTP_LMTP: must be true or false",
	},
	"sms": {
		"TRIBUTARY_KEEPER_URL=":                 "TRIBUTARY_KEEPER_URL: is required",
		"TRIBUTARY_BUCKET_URL=":                 "TRIBUTARY_BUCKET_URL: is required",
		"TRIBUTARY_REGISTRY_TOKEN=":             "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_SMS_TWILIO_URL=ftp://canary": "TRIBUTARY_SMS_TWILIO_URL: must be an absolute",
	},
	"conversation": {
		"TRIBUTARY_BUCKET_URL=canary":                "TRIBUTARY_BUCKET_URL: is of no kind",
		"TRIBUTARY_REGISTRY_TOKEN=":                  "TRIBUTARY_REGISTRY_TOKEN: is required",
		"TRIBUTARY_CONVERSATION_SEND_EXPIRY=1s":      "TRIBUTARY_CONVERSATION_SEND_EXPIRY: must be at least 1m",
		"TRIBUTARY_CONVERSATION_PER_CONNECTION=none": "TRIBUTARY_CONVERSATION_PER_CONNECTION: must be a whole number",
		"TRIBUTARY_CONVERSATION_POLL=0s":             "TRIBUTARY_CONVERSATION_POLL: must be at least 10ms",
		"TRIBUTARY_CONVERSATION_RESTORED=perhaps":    "TRIBUTARY_CONVERSATION_RESTORED: must be true or false",
	},
	"connect": {
		"TRIBUTARY_KEEPER_URL=vault://canary":     "TRIBUTARY_KEEPER_URL: is of no kind that is linked in (base64key)",
		"TRIBUTARY_CONNECT_RECONCILE_EVERY=-1m":   "TRIBUTARY_CONNECT_RECONCILE_EVERY: must be more than 0",
		"TRIBUTARY_CONNECT_NEW_OWNER_KEY=perhaps": "TRIBUTARY_CONNECT_NEW_OWNER_KEY: must be true or false",
	},
	"privacy": {
		"TRIBUTARY_REGISTRY_KEEPER_URL=base64key://": "TRIBUTARY_REGISTRY_KEEPER_URL: base64key:// must hold 32 bytes",
		"TRIBUTARY_REGISTRY_EPOCH_EVERY=0s":          "TRIBUTARY_REGISTRY_EPOCH_EVERY: must be longer than 0",
		"TRIBUTARY_REGISTRY_RATE=1":                  "TRIBUTARY_REGISTRY_RATE: must be at least",
		"TRIBUTARY_REGISTRY_TOKENS=slack:canary":     "TRIBUTARY_REGISTRY_TOKENS: entry 1",
		"TRIBUTARY_REGISTRY_SERVICES=slack":          "TRIBUTARY_REGISTRY_SERVICES: needs",
		"TRIBUTARY_PRIVACY_CACHE_MARGIN=0s":          "TRIBUTARY_PRIVACY_CACHE_MARGIN: must be more than 0",
		"TRIBUTARY_PRIVACY_ASK_AGAIN=soon":           "TRIBUTARY_PRIVACY_ASK_AGAIN: must be a duration",
	},
}

// channelBad are those of every channel; what is a channel's own its own tests look after.
var channelBad = map[string]string{
	"TRIBUTARY_KEEPER_URL=":     "TRIBUTARY_KEEPER_URL: is required",
	"TRIBUTARY_BUCKET_URL=":     "TRIBUTARY_BUCKET_URL: is required",
	"TRIBUTARY_REGISTRY_TOKEN=": "TRIBUTARY_REGISTRY_TOKEN: is required",
}

// TestEachServiceTellsAllFaultsOfItsSettings at once, naming each, and what it was set to of none.
func TestEachServiceTellsAllFaultsOfItsSettings(t *testing.T) {
	for _, s := range services() {
		t.Run(s.Name, func(t *testing.T) {
			own := ownBad[s.Name]
			if _, ok := channel.Lookup(s.Name); ok && own == nil {
				own = channelBad
			}
			require.NotEmpty(t, own, "a new service needs its bad settings here")
			environ, want := environment(t, bad, own)
			var stdout, stderr bytes.Buffer
			require.Equal(t, app.ExitConfig, app.Process(soon(t), s, nil, environ, &stdout, &stderr))
			require.Empty(t, stdout.String())
			requireTold(t, stderr.String(), s.Name, want)
		})
	}
}

func TestUpTellsAllFaultsOfAllServices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	own := map[string]string{"PORT=http": "PORT: must be a port's number", "TRIBUTARY_DATA=" + file: "TRIBUTARY_DATA: mkdir"}
	for _, name := range []string{"slack", "connect", "privacy", "conversation"} {
		for set, told := range ownBad[name] {
			if !embedded(set) {
				own[set] = told
			}
		}
	}
	delete(own, "TRIBUTARY_KEEPER_URL=base64key://canary") // slack's; connect's stays
	delete(own, "TRIBUTARY_BUCKET_URL=ftp://canary")       // slack's; conversation's stays
	environ, want := environment(t, bad, own)
	var stdout, stderr bytes.Buffer
	require.Equal(t, app.ExitConfig, Command(soon(t), []string{"up"}, environ, &stdout, &stderr))
	require.Empty(t, stdout.String())
	requireTold(t, strings.ReplaceAll(stderr.String(), file, ""), "tributary", want)
}

func TestUpDoesNotReadWhatItsEmbeddedPartsDecide(t *testing.T) {
	m, err := prepare([]string{"TRIBUTARY_DATA=" + t.TempDir(), "PORT=8123", "TRIBUTARY_KAFKA_BROKERS=nowhere", "TRIBUTARY_DATABASE_URL=mysql://x", "TRIBUTARY_REGISTRY_TOKENS_FILE=/nowhere", "TRIBUTARY_REGISTRY_TLS=true"})
	require.NoError(t, err)
	require.Empty(t, m.common.DatabaseURL)
	require.False(t, m.common.Registry.TLS)
	require.Equal(t, "127.0.0.1:8123", m.common.Listen)
	require.Equal(t, "http://127.0.0.1:8123", m.common.PublicURL)
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	require.Equal(t, app.ExitFailed, Command(soon(t), []string{"up"}, []string{"PORT=" + port, "TRIBUTARY_DATA=" + t.TempDir()}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "PORT: ")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"down"}, {"up", "--port=1"}, {"up", "now"}, {"verify-certificate"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, app.ExitConfig, Command(soon(t), args, nil, &stdout, &stderr), "%v", args)
		require.Contains(t, stderr.String(), "tributary: ")
	}
}

// soon ends what should not have started.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func environment(t *testing.T, settings ...map[string]string) (environ, want []string) {
	environ = []string{"TRIBUTARY_DATA=" + t.TempDir()}
	for _, some := range settings {
		for set, told := range some {
			environ, want = append(environ, set), append(want, told)
		}
	}
	return environ, want
}

// requireTold wants each fault in a line of its own, and nothing else.
func requireTold(t *testing.T, stderr, name string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Equal(t, name+": the configuration has faults:", lines[0])
	for _, told := range want {
		require.Equal(t, 1, strings.Count(stderr, "\n  "+told), "%s in\n%s", told, stderr)
	}
	require.Len(t, lines[1:], len(want), stderr)
	require.NotContains(t, strings.ReplaceAll(stderr, "/no/canary", ""), "canary")
}
