package app_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/app"
)

type settings struct {
	URL   string        `env:"TRIBUTARY_TEST_URL,required" doc:"where the provider | is"`
	Pause time.Duration `env:"TRIBUTARY_TEST_PAUSE" doc:"between calls"`
	Size  int           `env:"TRIBUTARY_TEST_SIZE" doc:"of a batch"`
	Peers []string      `env:"TRIBUTARY_TEST_PEERS" doc:"others"`
	Inner struct {
		Flag bool `env:"FLAG" doc:"an inner one"`
	} `envPrefix:"TRIBUTARY_TEST_INNER_"`
}

func (s *settings) Validate() error {
	if s.Size > 10 {
		return errors.New("TRIBUTARY_TEST_SIZE: must be at most 10")
	}
	return nil
}

func testService(build func(context.Context, *app.Deps) (*app.Parts, error)) app.Service {
	return app.Service{
		Name:   "test",
		Needs:  []string{app.BucketURL},
		Config: func() any { return &settings{Pause: 2 * time.Minute, Size: 3, Peers: []string{"a", "b"}} },
		Build:  build,
	}
}

func TestFaultsOfConfigurationAreToldAllAtOnce(t *testing.T) {
	built := false
	s := testService(func(context.Context, *app.Deps) (*app.Parts, error) { built = true; return nil, nil })
	var stdout, stderr bytes.Buffer
	code := app.Process(t.Context(), s, nil, []string{
		"TRIBUTARY_TEST_PAUSE=soon",
		"TRIBUTARY_TEST_SIZE=11",
		"TRIBUTARY_TEST_INNER_FLAG=perhaps",
		"TRIBUTARY_LISTEN=nowhere",
		"TRIBUTARY_SECRET=canary-too-short",
		"TRIBUTARY_CACHE_TTL=10m",
		"TRIBUTARY_KAFKA_PARTITIONS=many",
		"TRIBUTARY_KAFKA_SASL_MECHANISM=MAGIC",
		"TRIBUTARY_KAFKA_TLS_CERT=a.pem",
		"TRIBUTARY_DATABASE_URL=mysql://u:canary@h/d",
		"TRIBUTARY_TRUSTED_PROXIES=10.0.0.0/8,everybody",
		"TRIBUTARY_PUBLIC_URL=ftp://x",
		"TRIBUTARY_REGISTRY_TOKEN_FILE=/nowhere/token",
		"TRIBUTARY_LOG_LEVEL=loud",
	}, &stdout, &stderr)
	require.Equal(t, app.ExitConfig, code)
	require.False(t, built)
	for _, setting := range []string{
		"TRIBUTARY_TEST_URL: is required", "TRIBUTARY_TEST_PAUSE: must be a duration", "TRIBUTARY_TEST_SIZE: must be at most 10",
		"TRIBUTARY_TEST_INNER_FLAG: must be true or false", "TRIBUTARY_LISTEN:", "TRIBUTARY_SECRET:", "TRIBUTARY_CACHE_TTL:",
		"TRIBUTARY_KAFKA_PARTITIONS: must be a whole number", "TRIBUTARY_KAFKA_SASL_MECHANISM:", "TRIBUTARY_KAFKA_TLS_CERT:",
		"TRIBUTARY_DATABASE_URL:", "TRIBUTARY_TRUSTED_PROXIES:", "TRIBUTARY_PUBLIC_URL:", "TRIBUTARY_REGISTRY_TOKEN_FILE:", "TRIBUTARY_LOG_LEVEL:", "TRIBUTARY_BUCKET_URL: is required",
	} {
		require.Equal(t, 1, strings.Count(stderr.String(), "  "+setting), "%s in\n%s", setting, stderr.String())
	}
	require.NotContains(t, stderr.String(), "canary")
	require.Empty(t, stdout.String())
}

func TestLoad(t *testing.T) {
	t.Run("keeps defaults, takes files, and tells what it does not know", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
		common, own := app.Defaults(), &settings{Size: 3}
		unknown, err := app.Load([]string{
			"TRIBUTARY_TEST_URL=https://x", "TRIBUTARY_REGISTRY_TOKEN_FILE=" + file, "TRIBUTARY_KAFKA_BROKERS=a:1,b:2",
			"TRIBUTARY_TSET_SIZE=4", "HOME=/root",
		}, &common, own)
		require.NoError(t, err)
		require.Equal(t, []string{"TRIBUTARY_TSET_SIZE"}, unknown)
		require.Equal(t, "s3cret", common.Registry.Token)
		require.Equal(t, []string{"a:1", "b:2"}, common.Kafka.Brokers)
		require.Equal(t, 45*time.Second, common.CacheTTL)
		require.Equal(t, 3, own.Size)
	})
	t.Run("refuses a setting given twice", func(t *testing.T) {
		common := app.Defaults()
		_, err := app.Load([]string{"TRIBUTARY_SECRET=" + strings.Repeat("x", 32), "TRIBUTARY_SECRET_FILE=/x"}, &common)
		require.ErrorContains(t, err, "TRIBUTARY_SECRET_FILE: TRIBUTARY_SECRET is given too")
	})
	t.Run("asks for a trace file that can be written", func(t *testing.T) {
		common := app.Defaults()
		common.Data = filepath.Join(t.TempDir(), "made-at-the-start")
		for file, ok := range map[string]bool{
			filepath.Join(t.TempDir(), "traces"): true, filepath.Join(common.Data, "traces"): true,
			t.TempDir(): false, filepath.Join(t.TempDir(), "no", "traces"): false,
		} {
			common.TraceFile = file
			if err := common.Validate(); ok {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "TRIBUTARY_TRACE_FILE: can't be written")
			}
		}
	})
	t.Run("the defaults are valid", func(t *testing.T) {
		common := app.Defaults()
		require.NoError(t, common.Validate())
	})
}

func TestDocsListsEverySettingWithItsDefault(t *testing.T) {
	require.Equal(t, "| setting | default | what |\n| --- | --- | --- |\n"+
		"| `TRIBUTARY_TEST_URL` |  | where the provider \\| is |\n"+
		"| `TRIBUTARY_TEST_PAUSE` | `2m` | between calls |\n"+
		"| `TRIBUTARY_TEST_SIZE` | `3` | of a batch |\n"+
		"| `TRIBUTARY_TEST_PEERS` | `a,b` | others |\n"+
		"| `TRIBUTARY_TEST_INNER_FLAG` | `false` | an inner one |\n"+
		"\nRequired of the common ones: `TRIBUTARY_BUCKET_URL`.\n", app.Docs(testService(nil)))
	common := app.Defaults()
	for _, line := range strings.Split(strings.TrimSpace(app.Table(&common)), "\n")[2:] {
		require.Regexp(t, "^\\| `TRIBUTARY_\\w+` \\| .*\\| \\w.+ \\|$", line, "every common setting says what it is")
	}
}

func TestHelpAndArguments(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, app.ExitOK, app.Process(t.Context(), testService(nil), []string{"help"}, nil, &stdout, &stderr))
	require.Contains(t, stdout.String(), "TRIBUTARY_TEST_PAUSE")
	require.Contains(t, stdout.String(), "TRIBUTARY_KAFKA_BROKERS")
	require.Equal(t, app.ExitConfig, app.Process(t.Context(), testService(nil), []string{"--port=1"}, nil, &stdout, &stderr))
	require.Contains(t, stderr.String(), "no arguments")
}
