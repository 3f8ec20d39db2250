// Package mesh runs a mesh of its own for the demo and for proofs, and speaks to it as anyone outside would:
// its command line, webhooks, API, metrics, and the files it leaves.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Config of a Mesh.
type Config struct {
	// Bin is the folder of the binaries: tributary, and with Real one a service.
	Bin string
	// Data is the folder for everything that it writes.
	Data string
	// Real runs every service in a process of its own, on Kafka and PostgreSQL, behind a front that routes by
	// path; otherwise one process does it all.
	Real bool
	// Parts that it stands on with Real; nil: those of `make services`.
	Parts *Parts
	// Replicas of each service with Real; 0: one.
	Replicas int
	// Wires puts one between each process and each part that it stands on, and the key registry. It needs
	// Parts with as many doors as there are processes.
	Wires bool
	// Only are the services that are run; empty: all. With Real alone.
	Only []string
	// Untraced writes no spans: a trace file costs more than what is traced.
	Untraced bool
	// Profiled serves Go's profiles of each process, at its Profiles.
	Profiled bool
	// Settings of all its processes.
	Settings map[string]string
}

// Mesh is a mesh that is run.
type Mesh struct {
	// URL is where it is reached.
	URL       string
	cfg       Config
	processes []*Process
	real      *realParts // nil where one process does it all
}

// New plans a mesh; Start starts it, and Close leaves nothing of it but its folder.
func New(cfg Config) (*Mesh, error) {
	m := &Mesh{cfg: cfg}
	env := maps.Clone(cfg.Settings)
	if env == nil {
		env = map[string]string{}
	}
	if env["TRIBUTARY_TRACE_FILE"] == "" && !cfg.Untraced {
		env["TRIBUTARY_TRACE_FILE"] = filepath.Join(cfg.Data, "traces.jsonl")
	}
	if cfg.Real {
		err := m.planReal(env)
		m.profile()
		return m, err
	}
	port := freePort()
	m.URL = "http://" + loopback(port)
	maps.Copy(env, map[string]string{"TRIBUTARY_DATA": cfg.Data, "PORT": port, "TRIBUTARY_PUBLIC_URL": m.URL})
	m.processes = []*Process{{
		Name: standalone, Service: standalone, URL: m.URL, env: env,
		command: []string{filepath.Join(cfg.Bin, standalone), "up"}, log: filepath.Join(cfg.Data, standalone+".log"),
	}}
	m.profile()
	return m, nil
}

// standalone is the binary that is all services.
const standalone = "tributary"

// profile gives each process an address for its profiles, where they are wanted.
func (m *Mesh) profile() {
	for _, p := range m.processes {
		if m.cfg.Profiled {
			url, address := freeAddress()
			p.Profiles, p.env["TRIBUTARY_PROFILE_LISTEN"] = url+"/debug/pprof/", address
		}
	}
}

// Start starts every process that does not run and waits until each is ready.
func (m *Mesh) Start(ctx context.Context) error {
	for _, p := range m.processes {
		if err := p.begin(); err != nil {
			return err
		}
	}
	for _, p := range m.processes {
		if err := p.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop asks every process to end, and waits.
func (m *Mesh) Stop(ctx context.Context) error {
	for _, p := range m.processes {
		_ = p.signal(syscall.SIGTERM) // one that ended is found below
	}
	for _, p := range m.processes {
		if err := p.awaitEnd(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends every process with SIGKILL and waits until each is gone.
func (m *Mesh) Kill() {
	for _, p := range m.processes {
		_ = p.signal(syscall.SIGKILL) // one that ended needs none
	}
	for _, p := range m.processes {
		_ = p.Kill() // never fails
	}
}

// Close kills what still runs and removes what the mesh has outside its folder: databases and topics.
func (m *Mesh) Close(ctx context.Context) error {
	m.Kill()
	if m.real == nil {
		return nil
	}
	return m.real.remove(ctx)
}

// Set changes a setting of every process, for its next start.
func (m *Mesh) Set(name, value string) {
	for _, p := range m.processes {
		p.Set(name, value)
	}
}

// Tributary runs the command line.
func (m *Mesh) Tributary(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, filepath.Join(m.cfg.Bin, "tributary"), args...).CombinedOutput()
}

// Pause stops every process where it stands, as a machine does that is suspended, until resume is called.
func (m *Mesh) Pause() (resume func(), err error) {
	signal := func(s syscall.Signal) error {
		var errs []error
		for _, p := range m.processes {
			errs = append(errs, p.signal(s))
		}
		return errors.Join(errs...)
	}
	return func() { _ = signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// Client makes a client with the owner's key, which it wants in a file that is nobody else's.
func (m *Mesh) Client() (*Client, error) {
	path := filepath.Join(m.cfg.Data, "api-key")
	for _, p := range m.Of("connect") { // the one that was first has made it
		own := filepath.Join(p.env["TRIBUTARY_DATA"], "api-key")
		if _, err := os.Stat(own); err == nil {
			path = own
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm() != 0o600 {
		return nil, fmt.Errorf("%s has mode %o", path, info.Mode().Perm())
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := NewClient(m.URL)
	c.Key = strings.TrimSpace(string(key))
	return c, nil
}

// String says what runs.
func (m *Mesh) String() string {
	if m.cfg.Real {
		return fmt.Sprintf("%d processes (Apache Kafka, PostgreSQL)", len(m.processes))
	}
	return "one process (embedded broker, SQLite)"
}
