package charttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// secretSamples has one of each secret, as docs/operations.md has it made. None may stand in what is rendered.
func secretSamples() map[string]string {
	return map[string]string{
		"TRIBUTARY_SECRET":              strings.Repeat("s", 44),
		"TRIBUTARY_REGISTRY_TOKEN":      strings.Repeat("t", 44),
		"TRIBUTARY_REGISTRY_TOKENS":     "slack:" + strings.Repeat("t", 44) + ",privacy:" + strings.Repeat("u", 44),
		"TRIBUTARY_KEEPER_URL":          "base64key://MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
		"TRIBUTARY_REGISTRY_KEEPER_URL": "base64key://MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
		"TRIBUTARY_DATABASE_URL":        "postgres://mesh:password@postgres:5432/{name}",
		"TRIBUTARY_KAFKA_SASL_PASSWORD": "password",
		"TRIBUTARY_SMS_TWILIO_URL":      "https://twilio.example", // testdata/everything.yaml: any setting can come from the Secret
	}
}

// environment of a workload, its secrets filled in. What is a secret by its name must come from the service's Secret.
func environment(t *testing.T, w workload) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, e := range w.container().Env {
		if _, twice := env[e.Name]; twice {
			t.Errorf("%s is set twice", e.Name)
		}
		sample, secret := secretSamples()[e.Name]
		switch {
		case e.Name == "GOMEMLIMIT" && e.ValueFrom != nil:
			if ref, limits := e.ValueFrom.ResourceFieldRef, w.container().Resources.Limits; ref == nil || ref.Resource != "limits.memory" || limits.Memory().IsZero() {
				t.Errorf("GOMEMLIMIT is no limit of the container's: %v, %v", e.ValueFrom, limits)
			}
		case e.ValueFrom == nil && secret:
			t.Errorf("%s stands in what is rendered", e.Name)
		case e.ValueFrom == nil:
			env[e.Name] = e.Value
		case !secret:
			t.Errorf("%s comes from a Secret, and the test has no sample of it", e.Name)
		case e.ValueFrom.SecretKeyRef == nil || e.ValueFrom.SecretKeyRef.Key != e.Name || !strings.HasSuffix(e.ValueFrom.SecretKeyRef.Name, "-"+w.service()):
			t.Errorf("%s comes from %v", e.Name, e.ValueFrom)
		default:
			env[e.Name] = sample
		}
	}
	return env
}

// requireShared wants what replicas of a service, and services, must share (docs/operations.md). A service starts
// without: it then has a secret or a database of its own, or the registry knows nobody.
func requireShared(t *testing.T, service string, env map[string]string) {
	t.Helper()
	need := []string{"TRIBUTARY_SECRET", "TRIBUTARY_KAFKA_BROKERS", "TRIBUTARY_REGISTRY_ADDRESS"}
	if !isChannel(service) {
		need = append(need, "TRIBUTARY_DATABASE_URL")
	}
	if service == "privacy" {
		need = append(need, "TRIBUTARY_REGISTRY_LISTEN", "TRIBUTARY_REGISTRY_KEYSTORE")
	}
	for _, name := range need {
		if env[name] == "" {
			t.Errorf("%s is not set", name)
		}
	}
	either := func(token, certificate string) {
		if (env[token] == "") == (env[certificate] == "") {
			t.Errorf("either %s or %s, not %q and %q", token, certificate, env[token], env[certificate])
		}
	}
	either("TRIBUTARY_REGISTRY_TOKEN", "TRIBUTARY_REGISTRY_TLS_CERT")
	if service == "privacy" {
		either("TRIBUTARY_REGISTRY_TOKENS", "TRIBUTARY_REGISTRY_SERVICES")
	}
}

// requireKnown wants every setting to be one of the service's, as its README and docs/operations.md list them.
func requireKnown(t *testing.T, service string, env map[string]string) {
	t.Helper()
	var known []string
	for _, file := range []string{"docs/operations.md", "services/" + service + "/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `(TRIBUTARY_\\w+)` \\|").FindAllStringSubmatch(string(text), -1) {
			known = append(known, m[1])
		}
	}
	for name := range env {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no setting of %s", name, service)
		}
	}
}

// binaries of the services.
type binaries struct{ folder, certificate, key string }

// buildServices builds every service's own binary, and makes a certificate for what they read.
func buildServices(t *testing.T) binaries {
	t.Helper()
	b := binaries{folder: t.TempDir()}
	args := []string{"build", "-o", b.folder}
	for _, s := range serviceNames(t) {
		args = append(args, "./services/"+s+"/cmd/"+s)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	run(t, cmd)
	b.certificate, b.key = filepath.Join(b.folder, "tls.crt"), filepath.Join(b.folder, "tls.key")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mesh"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(b.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(b.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// requireTaken asks the service itself: with one setting more, a bad one, it must complain of that alone, and start
// nothing.
func (b binaries) requireTaken(t *testing.T, service string, env map[string]string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(b.folder, service))
	cmd.Env = []string{"TRIBUTARY_CLOCK_OFFSET=never"}
	folder := t.TempDir()
	for name, value := range env {
		switch {
		case strings.HasPrefix(value, "/etc/tributary/") && strings.HasSuffix(value, ".key"):
			value = b.key
		case strings.HasPrefix(value, "/etc/tributary/"):
			value = b.certificate
		}
		cmd.Env = append(cmd.Env, name+"="+strings.ReplaceAll(value, "/var/lib/tributary", folder))
	}
	out, err := cmd.CombinedOutput()
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "TRIBUTARY_CLOCK_OFFSET: must be") {
		t.Errorf("%v: it does not take what it is given:\n%s", err, out)
	}
}
