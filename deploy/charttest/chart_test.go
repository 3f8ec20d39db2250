package charttest

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
)

// TestTheMeshInstalled by chart and by compose.
func TestTheMeshInstalled(t *testing.T) {
	binaries := buildServices(t)
	t.Run("chart", func(t *testing.T) { requireChart(t, binaries) })
	t.Run("compose", func(t *testing.T) { requireCompose(t, binaries) })
}

// requireChart renders with several values, and holds what comes of each to the mesh.
func requireChart(t *testing.T, binaries binaries) {
	h := findHelm(t)
	partitions := map[string]int{"defaults": app.Defaults().Kafka.Partitions, "everything": 64, "one": 4}
	for _, name := range []string{"defaults", "everything", "one"} {
		t.Run(name, func(t *testing.T) {
			values := filepath.Join("testdata", name+".yaml")
			run(t, h.command(t, "lint", "--strict", chart, "-f", values))
			r := h.render(t, "-f", values)
			want := serviceNames(t)
			if name == "one" {
				want = slices.DeleteFunc(want, func(s string) bool { return s == "sms" }) // is disabled there
			}
			requireWorkloads(t, r, want)
			for _, w := range r.workloads {
				t.Run(w.service(), func(t *testing.T) {
					requirePod(t, r, w)
					requireStop(t, w)
					requireVolumes(t, r, w)
					requireReached(t, r, w)
					env := environment(t, w)
					requireKnown(t, w.service(), env)
					requireShared(t, w.service(), env)
					requireMesh(t, r, w, env, partitions[name])
					binaries.requireTaken(t, w.service(), env)
				})
			}
			requireIngress(t, r, want)
		})
	}
}

// TestWhatTheChartRefuses is said when it is rendered, not when pods fail.
func TestWhatTheChartRefuses(t *testing.T) {
	h := findHelm(t)
	for values, told := range map[string]string{
		"":                                  "kafka.brokers: name at least one",
		"channels.telex.replicas=1":         "there is no such channel (",
		"services.telex.replicas=1":         "telex",
		"settings.TRIBUTARY_DATABASE_URL=x": "TRIBUTARY_DATABASE_URL of privacy is a secret",
		"settings.SOMETHING=x":              "SOMETHING",
		"defaults.replicas=many":            "replicas",
		"ingress.enabled=true":              "ingress.host",
		"registry.tls=perhaps":              "registry",
		"channels.sms.ports[0].name=smtp":   "containerPort",
		"defaults.stop.timeout=3s":          "timeout",
		"kafka.sasl.mechanism=SCRAM-SHA-1":  "mechanism",
	} {
		t.Run(values, func(t *testing.T) {
			args := []string{"-f", "testdata/defaults.yaml", "--set", values}
			if values == "" {
				args = nil
			}
			out, err := h.template(t, args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), told) {
				t.Errorf("%v: %q is not told in\n%s", err, told, out)
			}
		})
	}
}

// serviceNames are those of go.work, but for standalone.
func serviceNames(t *testing.T) (names []string) {
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t\./services/(.+)$`).FindAllStringSubmatch(string(work), -1) {
		if m[1] != "standalone" {
			names = append(names, m[1])
		}
	}
	if len(names) < 5 {
		t.Fatalf("go.work names only %v", names)
	}
	return names
}

func isChannel(service string) bool { return slices.Contains(channel.Names(), service) }

// requireWorkloads wants one of each service, and for each what stands around it.
func requireWorkloads(t *testing.T, r rendered, want []string) {
	t.Helper()
	var got []string
	for name, w := range r.workloads {
		got = append(got, w.service())
		if _, ok := r.budgets[name]; !ok {
			t.Errorf("%s has no PodDisruptionBudget", name)
		}
		if _, ok := r.stateful[name]; isChannel(w.service()) && !ok {
			t.Errorf("%s is no StatefulSet: its spool would go with the pod", name)
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Fatalf("workloads of %v, want %v", got, want)
	}
	if len(r.policies) != 0 && len(r.policies) != len(want) {
		t.Errorf("%d NetworkPolicies for %d services", len(r.policies), len(want))
	}
	selects := map[string]*meta.LabelSelector{}
	for name, b := range r.budgets {
		selects["PodDisruptionBudget "+name] = b.Spec.Selector
	}
	for name, p := range r.policies {
		selects["NetworkPolicy "+name] = &p.Spec.PodSelector
	}
	for name, w := range r.workloads {
		selects["workload "+name] = w.selector
	}
	for name, s := range r.services {
		selects["Service "+name] = &meta.LabelSelector{MatchLabels: s.Spec.Selector}
	}
	for what, s := range selects {
		if found := r.selected(t, s); len(found) != 1 {
			t.Errorf("%s selects the pods of %v, want those of one workload", what, found)
		}
	}
	for name, s := range r.scalers {
		w, ok := r.workloads[s.Spec.ScaleTargetRef.Name]
		if !ok || w.replicas != nil {
			t.Errorf("HorizontalPodAutoscaler %s scales nothing, or what has replicas of its own", name)
		}
		//nolint:misspell // Kubernetes' spelling
		if _, ok := r.stateful[s.Spec.ScaleTargetRef.Name]; ok && (s.Spec.Behavior == nil || *s.Spec.Behavior.ScaleDown.SelectPolicy != "Disabled") {
			t.Errorf("HorizontalPodAutoscaler %s takes replicas away that have volumes", name)
		}
	}
	for name, m := range r.monitors {
		selector, err := meta.LabelSelectorAsSelector(&m.Spec.Selector)
		if err != nil {
			t.Fatal(err)
		}
		scraped := 0
		for _, s := range r.services {
			if selector.Matches(labels.Set(s.Labels)) {
				scraped++
				if !slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return p.Name == m.Spec.Endpoints[0].Port }) {
					t.Errorf("ServiceMonitor %s: Service %s has no such port", name, s.Name)
				}
			}
		}
		if scraped != len(want) {
			t.Errorf("ServiceMonitor %s scrapes %d Services, want %d", name, scraped, len(want))
		}
	}
}

// selected are the workloads whose pods a selector selects.
func (r rendered) selected(t *testing.T, s *meta.LabelSelector) (names []string) {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		t.Fatalf("%v: %v", s, err)
	}
	for name, w := range r.workloads {
		if selector.Matches(labels.Set(w.pod.Labels)) {
			names = append(names, name)
		}
	}
	return names
}

// requirePod holds a pod to the least that it needs.
func requirePod(t *testing.T, r rendered, w workload) {
	t.Helper()
	pod, c := w.pod.Spec, w.container()
	if !strings.HasSuffix(c.Image, "tributary/"+w.service()+":"+appVersion(t)) {
		t.Errorf("image %s", c.Image)
	}
	if _, ok := r.accounts[pod.ServiceAccountName]; !ok {
		t.Errorf("there is no ServiceAccount %q", pod.ServiceAccountName)
	}
	if *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
		t.Error("it is given a token, or settings that Kubernetes makes of Services")
	}
	s, p := c.SecurityContext, pod.SecurityContext
	if !*p.RunAsNonRoot || *p.RunAsUser == 0 || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault ||
		!*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || *s.Privileged || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || len(s.Capabilities.Add) != 0 {
		t.Errorf("it may do more than it needs: %v %v", p, s)
	}
	for path, probes := range map[string][]*core.Probe{"/healthz": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
		for _, probe := range probes {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port != intstr.FromString("http") {
				t.Errorf("probe %v, want one of %s", probe, path)
			}
		}
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("resources %v", c.Resources)
	}
}

// flushed is how long a process may take once it has stopped (libs/app: Process).
const flushed = 5 * time.Second

// requireStop wants time enough for the end of the process, and of a channel's calls.
func requireStop(t *testing.T, w workload) {
	t.Helper()
	env := map[string]string{}
	for _, e := range w.container().Env {
		env[e.Name] = e.Value
	}
	stop, err := time.ParseDuration(env["TRIBUTARY_STOP_TIMEOUT"])
	if err != nil {
		t.Fatal(err)
	}
	if grace := time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < stop+flushed {
		t.Errorf("killed after %s, stopping takes up to %s and flushing %s", grace, stop, flushed)
	}
	f, _ := channel.Lookup(w.service())
	if call := time.Duration(f.LongestCall) * time.Second; stop*4/5 < call {
		t.Errorf("of %s four fifths are for calls, of which one takes up to %s: it would end as unknown", stop, call)
	}
}

// requireMesh wants services to find each other, and topics as the design has them where values say nothing else.
func requireMesh(t *testing.T, r rendered, w workload, env map[string]string, partitions int) {
	t.Helper()
	if got := env["TRIBUTARY_KAFKA_PARTITIONS"]; got != strconv.Itoa(partitions) {
		t.Errorf("topics of %s partitions, want %d", got, partitions)
	}
	host, port, err := net.SplitHostPort(env["TRIBUTARY_REGISTRY_ADDRESS"])
	if err != nil {
		t.Fatal(err)
	}
	if w.service() == "privacy" { // which asks itself, ready or not
		if host != "127.0.0.1" || env["TRIBUTARY_REGISTRY_LISTEN"] != ":"+port {
			t.Errorf("it listens at %s and asks at %s:%s", env["TRIBUTARY_REGISTRY_LISTEN"], host, port)
		}
		return
	}
	s, ok := r.services[host]
	if !ok || s.Labels["app.kubernetes.io/component"] != "privacy" || !slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return strconv.Itoa(int(p.Port)) == port }) {
		t.Errorf("no Service leads to the key registry at %s:%s", host, port)
	}
	if name := env["TRIBUTARY_REGISTRY_TLS_SERVER_NAME"]; (env["TRIBUTARY_REGISTRY_TLS"] == "true") != (name == host) {
		t.Errorf("the registry's certificate is to be for %q, it is reached as %s", name, host)
	}
}

// requireVolumes wants each mount to have its volume, and what must outlive a pod to lie on one that does.
func requireVolumes(t *testing.T, r rendered, w workload) {
	t.Helper()
	env := map[string]string{}
	for _, e := range w.container().Env {
		env[e.Name] = e.Value
	}
	mounts, volumes := map[string]string{}, map[string]core.Volume{}
	for _, m := range w.container().VolumeMounts {
		mounts[m.MountPath] = m.Name
	}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = v
		if s := v.Secret; s != nil && (*s.DefaultMode != 0o440 || len(s.Items) == 0) {
			t.Errorf("volume %s: mode %o, items %v", v.Name, *s.DefaultMode, s.Items)
		}
		if c := v.PersistentVolumeClaim; c != nil {
			claim, made := r.claims[c.ClaimName]
			if made && claim.Annotations["helm.sh/resource-policy"] != "keep" {
				t.Errorf("claim %s goes with the release", c.ClaimName)
			}
			if !made && c.ClaimName != "keys" { // testdata/one.yaml has it
				t.Errorf("nobody makes the claim %s", c.ClaimName)
			}
		}
	}
	for _, c := range w.claims {
		volumes[c.Name] = core.Volume{Name: c.Name}
		if bytes, set := env["TRIBUTARY_SPOOL_BYTES"]; isChannel(w.service()) {
			spool := app.Defaults().SpoolBytes
			if set {
				var err error
				if spool, err = strconv.ParseInt(bytes, 10, 64); err != nil {
					t.Fatal(err)
				}
			}
			if size := c.Spec.Resources.Requests.Storage().Value(); size <= spool {
				t.Errorf("a volume of %d bytes for a spool of %d", size, spool)
			}
		}
	}
	for path, name := range mounts {
		if _, ok := volumes[name]; !ok {
			t.Errorf("%s: there is no volume %s", path, name)
		}
	}
	for name := range volumes {
		if !slices.Contains(slices.Collect(maps.Values(mounts)), name) {
			t.Errorf("volume %s is mounted nowhere", name)
		}
	}
	for setting, value := range env {
		folder := strings.TrimPrefix(value, "file://")
		if filepath.IsAbs(folder) && mounts[folder] == "" && mounts[filepath.Dir(folder)] == "" {
			t.Errorf("%s: %s is on no volume", setting, value)
		}
	}
	if s, ok := r.stateful[w.pod.Spec.ServiceAccountName]; ok {
		if keep := s.Spec.PersistentVolumeClaimRetentionPolicy; keep.WhenDeleted != "Retain" || keep.WhenScaled != "Retain" {
			t.Errorf("volumes go with replicas: %v", keep)
		}
	}
	if w.service() == "connect" && mounts["/var/lib/tributary/data/api-key"] != "owner-key" {
		t.Error("the first owner's key would go with the pod")
	}
}

// requireReached wants Services whose ports lead to it, and the registry reached by the mesh alone.
func requireReached(t *testing.T, r rendered, w workload) {
	t.Helper()
	ports := map[string]int32{}
	for _, p := range w.container().Ports {
		ports[p.Name] = p.ContainerPort
	}
	led := map[string]bool{}
	for name, s := range r.services {
		if !slices.Contains(r.selected(t, &meta.LabelSelector{MatchLabels: s.Spec.Selector}), w.pod.Spec.ServiceAccountName) {
			continue
		}
		for _, p := range s.Spec.Ports {
			if led[p.TargetPort.StrVal] = true; ports[p.TargetPort.StrVal] == 0 {
				t.Errorf("Service %s: port %s leads to none of the container's", name, p.Name)
			}
		}
	}
	for name := range ports {
		if !led[name] {
			t.Errorf("no Service leads to port %s", name)
		}
	}
	p, ok := r.policies[w.pod.Spec.ServiceAccountName]
	if !ok {
		return
	}
	open := map[int32]bool{}
	for _, rule := range p.Spec.Ingress {
		for _, port := range rule.Ports {
			open[port.Port.IntVal] = true
			if port.Port.IntVal != ports["registry"] || ports["registry"] == 0 {
				continue
			}
			for _, from := range rule.From {
				if from.PodSelector == nil || from.NamespaceSelector != nil || len(r.selected(t, from.PodSelector)) != len(r.workloads) {
					t.Errorf("the registry is open to %v", from)
				}
			}
			if len(rule.From) == 0 {
				t.Error("the registry is open to everybody")
			}
		}
	}
	for name, port := range ports {
		if !open[port] {
			t.Errorf("nobody may reach port %s", name)
		}
	}
}

func appVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil || c.AppVersion == "" {
		t.Fatalf("Chart.yaml: %v", err)
	}
	return c.AppVersion
}
