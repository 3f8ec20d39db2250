package charttest

import (
	"encoding/xml"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
)

// requireCompose reads compose.yaml as compose does, with secrets as deploy/compose/secrets makes them.
func requireCompose(t *testing.T, binaries binaries) {
	secrets := madeSecrets(t)
	p := project(t, secrets)
	want := append(serviceNames(t), "front", "kafka", "postgres")
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for _, name := range serviceNames(t) {
		t.Run(name, func(t *testing.T) {
			s := p.Services[name]
			env := map[string]string{"TRIBUTARY_DATA": "/var/lib/tributary/data"} // the image's
			for setting, value := range s.Environment {
				env[setting] = *value
			}
			requireKnown(t, name, env)
			requireShared(t, name, env)
			binaries.requireTaken(t, name, env)
			requireContainer(t, p, s, env)
			if token := env["TRIBUTARY_REGISTRY_TOKEN"]; !strings.Contains(","+*p.Services["privacy"].Environment["TRIBUTARY_REGISTRY_TOKENS"]+",", ","+name+":"+token+",") {
				t.Error("the registry does not know its token")
			}
		})
	}
	for name, s := range p.Services {
		tag := s.Image[strings.LastIndexByte(s.Image, ':')+1:]
		if s.Build == nil && !strings.ContainsAny(tag, "0123456789") {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 {
			t.Errorf("%s has no healthcheck", name)
		}
		for dependency, how := range s.DependsOn {
			if _, ok := p.Services[dependency]; !ok || how.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s waits for %s: %s", name, dependency, how.Condition)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || name != "front" {
				t.Errorf("%s is open at %s:%s by itself", name, port.HostIP, port.Published)
			}
		}
	}
	if kafka := p.Services["kafka"].Image; kafka != "apache/kafka:"+testedKafka(t) {
		t.Errorf("%s is not the Kafka that tests run on (%s)", kafka, testedKafka(t))
	}
	databases, err := os.ReadFile(filepath.Join(root, "deploy", "compose", "databases.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conversation", "connect", "registry", "privacy"} {
		if !strings.Contains(string(databases), "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE 'C';") {
			t.Errorf("nobody makes the database %s as docs/operations.md says", name)
		}
	}
}

// TestNoSecretOfComposeHasADefault: without its file it does not start.
func TestNoSecretOfComposeHasADefault(t *testing.T) {
	secrets := madeSecrets(t)
	for name := range secrets {
		fewer := maps.Clone(secrets)
		delete(fewer, name)
		if _, err := load(t, fewer); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestSecretsAreKeptAndAddedTo where a channel came new.
func TestSecretsAreKeptAndAddedTo(t *testing.T) {
	before := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(before, []byte("# mine\nKEEPER_KEY=kept\nPUBLIC_URL=https://mesh.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	after := parse(t, run(t, exec.CommandContext(t.Context(), filepath.Join(root, "deploy", "compose", "secrets"), before)))
	if after["KEEPER_KEY"] != "kept" || after["PUBLIC_URL"] != "https://mesh.example" || len(after["SLACK_REGISTRY_TOKEN"]) != 44 {
		t.Errorf("%d settings, KEEPER_KEY %q, PUBLIC_URL %q", len(after), after["KEEPER_KEY"], after["PUBLIC_URL"])
	}
}

// madeSecrets are what the script writes.
func madeSecrets(t *testing.T) map[string]string {
	t.Helper()
	secrets := parse(t, run(t, exec.CommandContext(t.Context(), filepath.Join(root, "deploy", "compose", "secrets"))))
	seen := map[string]bool{}
	for name, value := range secrets {
		if len(value) != 44 || seen[value] { // 32 bytes in base64
			t.Errorf("%s is not random", name)
		}
		seen[value] = true
	}
	if want := 7 + len(channel.Names()); len(secrets) != want {
		t.Fatalf("%d secrets, want %d", len(secrets), want)
	}
	return secrets
}

func parse(t *testing.T, text string) map[string]string {
	t.Helper()
	env, err := dotenv.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func load(t *testing.T, env map[string]string) (*types.Project, error) {
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  filepath.Join(root, "deploy"),
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(root, "deploy", "compose.yaml")}},
		Environment: env,
	})
}

func project(t *testing.T, env map[string]string) *types.Project {
	t.Helper()
	p, err := load(t, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// requireContainer holds a service of the mesh to how it must run.
func requireContainer(t *testing.T, p *types.Project, s types.ServiceConfig, env map[string]string) {
	t.Helper()
	if s.Image != "tributary/"+s.Name+":"+appVersion(t) || *s.Build.Args["SERVICE"] != s.Name {
		t.Errorf("image %s of %s", s.Image, *s.Build.Args["SERVICE"])
	}
	if file := filepath.Join(root, "deploy", s.Build.Context, s.Build.Dockerfile); filepath.Clean(s.Build.Dockerfile) != "deploy/Dockerfile" {
		t.Errorf("built by %s", file)
	}
	if !s.ReadOnly || s.User != "65532:65532" || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
		t.Error("it may do more than it needs")
	}
	stop := app.Defaults().StopTimeout
	if set, ok := env["TRIBUTARY_STOP_TIMEOUT"]; ok {
		var err error
		if stop, err = time.ParseDuration(set); err != nil {
			t.Fatal(err)
		}
	}
	if grace := time.Duration(*s.StopGracePeriod); grace < stop+flushed {
		t.Errorf("killed after %s, stopping takes up to %s and flushing %s", grace, stop, flushed)
	}
	f, _ := channel.Lookup(s.Name)
	if call := time.Duration(f.LongestCall) * time.Second; stop*4/5 < call {
		t.Errorf("of %s four fifths are for calls, of which one takes up to %s", stop, call)
	}
	mounted := map[string]bool{}
	for _, v := range s.Volumes {
		mounted[v.Target] = true
		if _, ok := p.Volumes[v.Source]; !ok || v.Type != types.VolumeTypeVolume {
			t.Errorf("%s is no volume", v.Source)
		}
	}
	for setting, value := range env {
		if folder := strings.TrimPrefix(value, "file://"); filepath.IsAbs(folder) && !mounted[folder] {
			t.Errorf("%s: %s is on no volume", setting, value)
		}
	}
}

// testedKafka is the version that `make services` starts.
func testedKafka(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "services", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var pom struct {
		Dependencies []struct {
			Group   string `xml:"groupId"`
			Version string `xml:"version"`
		} `xml:"dependencies>dependency"`
	}
	if err := xml.Unmarshal(text, &pom); err != nil {
		t.Fatal(err)
	}
	for _, d := range pom.Dependencies {
		if d.Group == "org.apache.kafka" {
			return d.Version
		}
	}
	t.Fatal("pom.xml has no Kafka")
	return ""
}
