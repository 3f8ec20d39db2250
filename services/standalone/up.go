package standalone

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tributary.dev/libs/app"
	"tributary.dev/libs/devbroker"
)

// Files of the data folder that a person looks for.
const (
	apiKeyFile         = "api-key"
	certificateKeyFile = "certificate-key.pem"
)

// up runs the mesh until ctx ends.
func up(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	m, err := prepare(environ)
	if err != nil {
		app.PrintFaults(stderr, "tributary", err)
		return exitError(app.ExitConfig)
	}
	return m.run(ctx, stdout, stderr)
}

// mesh is one process with every service in it.
type mesh struct {
	common  app.Common
	units   []app.Unit
	unknown []string
}

// prepare reads the settings of all services from the environment, and sets those that the embedded parts
// decide: broker, databases, registry.
func prepare(environ []string) (*mesh, error) {
	m := &mesh{common: app.Defaults()}
	m.common.Listen = "127.0.0.1:" + lookup(environ, "PORT", "8080")
	data, err := filepath.Abs(lookup(environ, "TRIBUTARY_DATA", m.common.Data))
	if err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	keeper, err := keeperKey(filepath.Join(data, "keeper-key"))
	if err != nil {
		return nil, fmt.Errorf("TRIBUTARY_DATA: %w", err)
	}
	m.common.PublicURL = "http://" + m.common.Listen
	m.common.KeeperURL = keeper
	m.common.BucketURL = "file://" + filepath.ToSlash(filepath.Join(data, "bucket")) + "?create_dir=true&no_tmp_dir=true&metadata=skip"

	var tokens []string
	targets := []any{&m.common}
	for _, s := range services() {
		u := app.Unit{Service: s, RegistryToken: rand.Text() + rand.Text()}
		if s.Config != nil {
			u.Settings = s.Config()
			targets = append(targets, u.Settings)
		}
		tokens = append(tokens, s.Name+":"+u.RegistryToken)
		m.units = append(m.units, u)
	}
	environ = append(slices.Clone(environ),
		"TRIBUTARY_DATA="+data,
		"TRIBUTARY_REGISTRY_TOKENS="+strings.Join(tokens, ","))
	if lookup(environ, "TRIBUTARY_REGISTRY_KEEPER_URL", "") == "" {
		environ = append(environ, "TRIBUTARY_REGISTRY_KEEPER_URL="+keeper)
	}
	m.unknown, err = app.Load(environ, targets...)
	m.common.Data = data
	m.common.DatabaseURL = "" // SQLite, in the data folder
	m.common.Kafka = app.KafkaSettings{Prefix: app.Defaults().Kafka.Prefix, Partitions: 4}
	return m, err
}

// run starts the broker and the services, and stops them in reverse.
func (m *mesh) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	broker, err := devbroker.Start(ctx, devbroker.Config{Dir: filepath.Join(m.common.Data, "broker"), Partitions: m.common.Kafka.Partitions})
	if err != nil {
		return err
	}
	defer broker.Close()
	m.common.Kafka.Brokers = []string{broker.Addr()}

	var lc net.ListenConfig
	registry, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.common.Registry.Address = registry.Addr().String()
	listener, err := lc.Listen(ctx, "tcp", m.common.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("PORT: %w", err), registry.Close())
	}
	platform, err := app.Open(ctx, "standalone", m.common)
	if err != nil {
		return errors.Join(err, registry.Close(), listener.Close())
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, platform.Close(closing))
	}()
	for _, name := range m.unknown {
		platform.Telemetry.Log.WarnContext(ctx, "unknown setting", "setting", name)
	}
	platform.Listener, platform.RegistryListener = listener, registry
	platform.Started = func(a net.Addr) { m.welcome(stdout, "http://"+a.String()) }
	return platform.Run(ctx, m.units...)
}

// welcome says where the mesh is and how to try it.
func (m *mesh) welcome(w io.Writer, url string) {
	key := filepath.Join(m.common.Data, apiKeyFile)
	fmt.Fprintf(w, `
Tributary is up:  %[1]s
The owner's API key lies in %[2]s. Try:

  curl -s -H "Authorization: Bearer $(cat %[2]s)" %[1]s/v1/connections
  curl -s -H "Authorization: Bearer $(cat %[2]s)" -H 'Content-Type: application/json' %[1]s/v1/connections \
    -d '{"channel":"sms","name":"Shop","external_id":"+41445550100","credentials":{"account_sid":"ACexample","auth_token":"example-token"}}'
  curl -s -H "Authorization: Bearer $(cat %[2]s)" %[1]s/v1/conversations
  curl -sN -H "Authorization: Bearer $(cat %[2]s)" %[1]s/v1/events

The API is described at %[1]s/v1/openapi.yaml. Ctrl-C stops; all data stays in %[3]s.

`, url, key, m.common.Data)
}

// keeperKey gives the keeper's URL of a standalone mesh: a key in a file of mode 0600, made once.
func keeperKey(path string) (string, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	if err := app.WriteOnce(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if len(key) != 32 {
		return "", fmt.Errorf("%s is damaged", path)
	}
	return "base64key://" + base64.URLEncoding.EncodeToString(key), nil
}

// lookup gives the last value of an environment variable that is not empty.
func lookup(environ []string, name, otherwise string) string {
	for _, e := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(e, name+"="); ok && value != "" {
			return value
		}
	}
	return otherwise
}
