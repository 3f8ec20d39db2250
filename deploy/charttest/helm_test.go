// Package charttest holds the chart, the image and compose to the mesh that they run: what is rendered is decoded
// strictly, and every service is asked by its own binary whether it takes the settings that it is given there.
package charttest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	chart     = root + "/charts/tributary"
	namespace = "mesh"
	release   = "acme"
)

// helm is the pinned one's binary, which the first call on a machine builds.
type helm struct{ path string }

func findHelm(t *testing.T) helm {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "helm")
	cmd.Dir = filepath.Join(root, "deploy", "tools", "helm")
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	return helm{strings.TrimSpace(run(t, cmd))}
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return stdout.String()
}

// command with what keeps a helm from reading anything of whoever runs the test.
func (h helm) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), h.path, args...)
	home := t.TempDir()
	cmd.Env = append(cmd.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+filepath.Join(home, "none"))
	return cmd
}

func (h helm) template(t *testing.T, args ...string) *exec.Cmd {
	return h.command(t, append([]string{"template", release, chart, "--namespace", namespace, "--kube-version", "1.31.0"}, args...)...)
}

// rendered is what the chart makes of values, by the objects' names.
type rendered struct {
	workloads   map[string]workload
	services    map[string]core.Service
	accounts    map[string]core.ServiceAccount
	claims      map[string]core.PersistentVolumeClaim
	budgets     map[string]policy.PodDisruptionBudget
	policies    map[string]networking.NetworkPolicy
	scalers     map[string]autoscaling.HorizontalPodAutoscaler
	ingresses   map[string]networking.Ingress
	monitors    map[string]monitoring.ServiceMonitor
	deployments map[string]apps.Deployment
	stateful    map[string]apps.StatefulSet
}

// workload is what a Deployment and a StatefulSet have in common.
type workload struct {
	replicas *int32
	selector *meta.LabelSelector
	pod      core.PodTemplateSpec
	claims   []core.PersistentVolumeClaim
}

// container of a workload, which has one.
func (w workload) container() core.Container { return w.pod.Spec.Containers[0] }

// service that it runs, by its label.
func (w workload) service() string { return w.pod.Labels["app.kubernetes.io/component"] }

// render decodes each document into its kind's own type, and fails for what that type does not have.
func (h helm) render(t *testing.T, args ...string) rendered {
	t.Helper()
	r := rendered{
		map[string]workload{}, map[string]core.Service{}, map[string]core.ServiceAccount{}, map[string]core.PersistentVolumeClaim{},
		map[string]policy.PodDisruptionBudget{}, map[string]networking.NetworkPolicy{}, map[string]autoscaling.HorizontalPodAutoscaler{},
		map[string]networking.Ingress{}, map[string]monitoring.ServiceMonitor{}, map[string]apps.Deployment{}, map[string]apps.StatefulSet{},
	}
	for _, document := range regexp.MustCompile(`(?m)^---$`).Split(run(t, h.template(t, args...)), -1) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		var err error
		switch kind.APIVersion + " " + kind.Kind {
		case " ": // a comment
		case "apps/v1 Deployment":
			err = decode(document, r.deployments)
		case "apps/v1 StatefulSet":
			err = decode(document, r.stateful)
		case "v1 Service":
			err = decode(document, r.services)
		case "v1 ServiceAccount":
			err = decode(document, r.accounts)
		case "v1 PersistentVolumeClaim":
			err = decode(document, r.claims)
		case "policy/v1 PodDisruptionBudget":
			err = decode(document, r.budgets)
		case "networking.k8s.io/v1 NetworkPolicy":
			err = decode(document, r.policies)
		case "networking.k8s.io/v1 Ingress":
			err = decode(document, r.ingresses)
		case "autoscaling/v2 HorizontalPodAutoscaler":
			err = decode(document, r.scalers)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			err = decode(document, r.monitors)
		default: // no ConfigMap or Secret, above all
			err = fmt.Errorf("nobody expects a %s %s", kind.APIVersion, kind.Kind)
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
	}
	for name, d := range r.deployments {
		r.workloads[name] = workload{d.Spec.Replicas, d.Spec.Selector, d.Spec.Template, nil}
	}
	for name, s := range r.stateful {
		r.workloads[name] = workload{s.Spec.Replicas, s.Spec.Selector, s.Spec.Template, s.Spec.VolumeClaimTemplates}
	}
	return r
}

// decode one of a kind, which no other of its kind may have the name of.
func decode[T any, P interface {
	*T
	meta.Object
}](document string, into map[string]T) error {
	text, err := yaml.YAMLToJSONStrict([]byte(document))
	if err != nil {
		return err
	}
	var object T
	// As the API server reads it: a field's name is its case, too.
	unknown, err := json.UnmarshalStrict(text, &object)
	if err = errors.Join(append(unknown, err)...); err != nil {
		return err
	}
	o := P(&object)
	if _, twice := into[o.GetName()]; twice {
		return fmt.Errorf("%s is there twice", o.GetName())
	}
	if o.GetNamespace() != namespace {
		return fmt.Errorf("%s lies in namespace %q", o.GetName(), o.GetNamespace())
	}
	into[o.GetName()] = object
	return nil
}
