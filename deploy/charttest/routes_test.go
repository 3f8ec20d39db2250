package charttest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// paths by the service that answers them: those of the APIs' descriptions, of connect's pages, and each channel's own.
func paths(t *testing.T, services []string) map[string]string {
	t.Helper()
	all := map[string]string{"/connect/link": "connect", "/connect/callback/slack": "connect"} // pages, which no API's description has
	for _, s := range services {
		text, err := os.ReadFile(filepath.Join(root, "services", s, "openapi.yaml"))
		if err != nil && !isChannel(s) {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^  (/[^\s:]+):`).FindAllStringSubmatch(string(text), -1) {
			all[strings.NewReplacer("{", "", "}", "").Replace(m[1])] = s
		}
		if isChannel(s) {
			all["/webhooks/"+s+"/acme"], all["/media/"+s+"/token"] = s, s
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d paths: %v", len(all), all)
	}
	return all
}

// requireIngress wants each path of the mesh to lead to the service that has it, by Kubernetes' rule: the longest
// prefix, element by element.
func requireIngress(t *testing.T, r rendered, services []string) {
	t.Helper()
	for name, ingress := range r.ingresses {
		if len(ingress.Spec.TLS) != 1 || ingress.Spec.TLS[0].Hosts[0] != ingress.Spec.Rules[0].Host {
			t.Errorf("Ingress %s: TLS %v", name, ingress.Spec.TLS)
		}
		for path, service := range paths(t, services) {
			longest, to := "", ""
			for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
				if strings.HasPrefix(path+"/", p.Path+"/") && len(p.Path) > len(longest) {
					longest, to = p.Path, p.Backend.Service.Name
				}
			}
			if s, ok := r.services[to]; !ok || s.Labels["app.kubernetes.io/component"] != service {
				t.Errorf("%s leads to %q, want %s", path, to, service)
			}
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/"} {
			for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
				if strings.HasPrefix(path+"/", p.Path+"/") {
					t.Errorf("%s leads to %s from outside", path, p.Backend.Service.Name)
				}
			}
		}
	}
}

// TestTheFrontOfComposeRoutes as the Ingress does, by nginx' rule: an exact path, then a pattern, then the longest
// prefix.
func TestTheFrontOfComposeRoutes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "compose", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	locations := regexp.MustCompile(`(?m)^    location (= |~ |)(\S+) \{ set \$to ([a-z0-9-]+):8080; proxy_pass http://\$to;`).FindAllStringSubmatch(string(text), -1)
	leads := func(path string) (to string) {
		longest := ""
		for _, l := range locations {
			switch {
			case l[1] == "= " && l[2] == path, l[1] == "~ " && regexp.MustCompile(l[2]).MatchString(path):
				return l[3]
			case l[1] == "" && strings.HasPrefix(path, l[2]) && len(l[2]) > len(longest):
				longest, to = l[2], l[3]
			}
		}
		return to
	}
	for path, service := range paths(t, serviceNames(t)) {
		if to := leads(path); to != service {
			t.Errorf("%s leads to %q, want %s", path, to, service)
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/"} {
		if to := leads(path); to != "" {
			t.Errorf("%s leads to %s from outside", path, to)
		}
	}
}
