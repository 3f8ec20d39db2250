package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tributary.dev/deploy/mesh"
)

var binaries string

func TestMain(m *testing.M) { os.Exit(built(m)) }

// built builds what the tests run.
func built(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tributary-proof-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	commands := []string{"../../services/standalone/cmd/tributary"}
	if realParts() {
		commands, _ = filepath.Glob("../../services/*/cmd/*") // a pattern that is right
	}
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, commands...)...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func newWorld(t *testing.T, settings map[string]string) *world {
	t.Helper()
	return newWorldOf(t, settings, providers{users: map[string]string{}})
}

func newWorldOf(t *testing.T, settings map[string]string, known providers) *world {
	t.Helper()
	all := map[string]string{"TRIBUTARY_LOG_LEVEL": "debug"}
	maps.Copy(all, settings)
	data := t.TempDir()
	w, err := openWorld(t.Context(), mesh.Config{Bin: binaries, Data: data, Settings: all}, known)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs(data))
		}
		if err := w.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) must(t *testing.T, method, path string, body any, want int) mesh.Object {
	t.Helper()
	o, err := w.api.Call(t.Context(), method, path, body, want)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// within wants check to succeed in time.
func within(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	if err := mesh.Eventually(t.Context(), d, check); err != nil {
		t.Fatal(err)
	}
}

// realParts tells whether tests are given Kafka and PostgreSQL.
func realParts() bool {
	return os.Getenv("TRIBUTARY_TEST_KAFKA") != "" && os.Getenv("TRIBUTARY_TEST_POSTGRES") != ""
}

// TestScenario runs every scenario in a small size.
func TestScenario(t *testing.T) {
	own := &ownParts{}
	t.Cleanup(func() {
		if err := own.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, s := range scenarios() {
		for _, parts := range s.parts {
			t.Run(s.name+"/"+parts, func(t *testing.T) {
				if parts == real && !realParts() {
					t.Skip("NOT RUN on Kafka and PostgreSQL: TRIBUTARY_TEST_KAFKA and TRIBUTARY_TEST_POSTGRES are not set (`make services` starts them)")
				}
				o := options{bin: binaries, parts: parts, size: s.small, seed: uint64(time.Now().UnixNano()), data: t.TempDir(), own: own, say: t.Logf}
				t.Logf("SEED=%d", o.seed)
				r, err := s.carryOut(t.Context(), o)
				if err != nil || !r.holds() {
					t.Errorf("%+v: %v\n%s", r, err, logs(o.data))
				}
			})
		}
	}
}
