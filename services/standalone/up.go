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
	"strconv"
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
// decide: broker, databases, registry. The error joins all faults.
func prepare(environ []string) (*mesh, error) {
	m := &mesh{common: app.Defaults()}
	var faults []error
	port := lookup(environ, "PORT", "8080")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		faults, port = append(faults, errors.New("PORT: must be a port's number")), "0"
	}
	m.common.Listen = "127.0.0.1:" + port
	m.common.StopDelay = 0 // nothing routes to it
	data, keeper, err := folder(lookup(environ, "TRIBUTARY_DATA", m.common.Data))
	if err != nil {
		faults = append(faults, fmt.Errorf("TRIBUTARY_DATA: %w", err))
	}
	m.common.KeeperURL = keeper
	m.common.BucketURL = "file://" + filepath.ToSlash(filepath.Join(data, "bucket"))

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
	environ = append(slices.DeleteFunc(slices.Clone(environ), embedded), "TRIBUTARY_DATA="+data, "TRIBUTARY_REGISTRY_TOKENS="+strings.Join(tokens, ","))
	if lookup(environ, "TRIBUTARY_REGISTRY_KEEPER_URL", "") == "" {
		environ = append(environ, "TRIBUTARY_REGISTRY_KEEPER_URL="+keeper)
	}
	m.unknown, err = app.Load(environ, targets...)
	faults = append(faults, err)
	for _, u := range m.units {
		common := m.common
		common.Registry.Token = u.RegistryToken
		faults = append(faults, u.Service.Lacks(common))
	}
	if m.common.PublicURL == "" {
		m.common.PublicURL = "http://" + m.common.Listen
	}
	m.common.Kafka.Partitions = 4
	m.common.Kafka.Heartbeat = time.Second // each group has one member: nobody waits for it to hear of another
	return m, errors.Join(faults...)
}

// embedded tells whether an environment variable sets what the embedded parts decide.
func embedded(variable string) bool {
	for _, prefix := range []string{
		"TRIBUTARY_KAFKA_", "TRIBUTARY_DATABASE_URL", "TRIBUTARY_REGISTRY_ADDRESS", "TRIBUTARY_REGISTRY_LISTEN", "TRIBUTARY_REGISTRY_TOKEN",
		"TRIBUTARY_REGISTRY_TLS", "TRIBUTARY_REGISTRY_SERVER_", "TRIBUTARY_REGISTRY_CLIENT_CA", "TRIBUTARY_REGISTRY_SERVICES",
	} {
		if strings.HasPrefix(variable, prefix) {
			return true
		}
	}
	return false
}

// folder makes the data folder, and gives its path and the keeper's URL, whose key lies in it.
func folder(path string) (data, keeper string, err error) {
	keeper = keeperURL(make([]byte, 32)) // where there is no folder, that is the one fault to tell
	if data, err = filepath.Abs(path); err != nil {
		return path, keeper, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return data, keeper, err
	}
	key, err := keeperKey(filepath.Join(data, "keeper-key"))
	if err != nil {
		return data, keeper, err
	}
	return data, keeperURL(key), nil
}

// run starts the broker and the services, and stops them in reverse.
func (m *mesh) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	broker, err := devbroker.Start(ctx, devbroker.Config{Dir: filepath.Join(m.common.Data, "broker"), Partitions: m.common.Kafka.Partitions})
	if err != nil {
		return err
	}
	defer broker.Close()
	m.common.Kafka.Brokers = []string{broker.Addr()}
	if err := os.WriteFile(filepath.Join(m.common.Data, "broker", "address"), []byte(broker.Addr()+"\n"), 0o600); err != nil {
		return err
	}

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
		//bound:timeout flushing at the end of the process | {} | what is not flushed is given up
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
    -d '{"channel":"sms","name":"Shop","external_id":"+41445550100","check":false,"credentials":{"account_sid":"ACexample","auth_token":"example-token"}}'
  curl -s -H "Authorization: Bearer $(cat %[2]s)" %[1]s/v1/conversations
  curl -sN -H "Authorization: Bearer $(cat %[2]s)" %[1]s/v1/events

The API is described at %[1]s/v1/openapi.yaml. Ctrl-C stops; all data stays in %[3]s.

`, url, key, m.common.Data)
}

func keeperURL(key []byte) string { return "base64key://" + base64.URLEncoding.EncodeToString(key) }

// keeperKey gives the keeper's key of a standalone mesh: a file of mode 0600, made once.
func keeperKey(path string) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	if err := app.WriteOnce(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	key, err := os.ReadFile(path)
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("%s is damaged", path)
	}
	return key, err
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
