// Package mesh runs a mesh of its own for the demo and for proofs, and speaks to it as anyone outside would:
// its command line, webhooks, API, metrics, and the files it leaves.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Config of a Mesh.
type Config struct {
	// Bin is the folder of the binaries: tributary, and with Real one a service.
	Bin string
	// Data is the folder for everything that it writes.
	Data string
	// Real runs one process a service, on Kafka and PostgreSQL (`make services`), behind a front that routes
	// by path; otherwise one process does it all.
	Real bool
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
	URL string

	cfg       Config
	keyDir    string
	processes []*Process
	real      *realParts // nil where one process does it all
}

// Process is one of its processes.
type Process struct {
	Name, URL string
	// Profiles is where Go's profiles of it are; "" where the mesh is not Profiled.
	Profiles string

	env  map[string]string
	cmd  *exec.Cmd
	done chan error
}

// New plans a mesh; Start starts it, and Close leaves nothing of it but its folder.
func New(cfg Config) (*Mesh, error) {
	m := &Mesh{cfg: cfg, keyDir: cfg.Data}
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
	var address string
	m.URL, address = FreeAddress()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	maps.Copy(env, map[string]string{"TRIBUTARY_DATA": cfg.Data, "PORT": port, "TRIBUTARY_PUBLIC_URL": m.URL})
	m.processes = []*Process{{Name: "tributary", URL: m.URL, env: env}}
	m.profile()
	return m, nil
}

// profile gives each process an address for its profiles, where they are wanted.
func (m *Mesh) profile() {
	for _, p := range m.processes {
		if m.cfg.Profiled {
			url, address := FreeAddress()
			p.Profiles, p.env["TRIBUTARY_PROFILE_LISTEN"] = url+"/debug/pprof/", address
		}
	}
}

// FreeAddress is a loopback port that nobody listens on.
func FreeAddress() (url, address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // a machine without a free port
	}
	defer l.Close()
	return "http://" + l.Addr().String(), l.Addr().String()
}

// Start starts every process and waits until each is ready.
func (m *Mesh) Start(ctx context.Context) error {
	for _, p := range m.processes {
		if err := m.launch(p); err != nil {
			return err
		}
	}
	for _, p := range m.processes {
		if err := p.awaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w (see its log)", p.Name, err)
		}
	}
	return nil
}

func (m *Mesh) launch(p *Process) error {
	command := []string{filepath.Join(m.cfg.Bin, p.Name)}
	if p.Name == "tributary" {
		command = append(command, "up")
	}
	return p.start(command, filepath.Join(m.cfg.Data, p.Name+".log"))
}

func (p *Process) start(command []string, logFile string) error {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                                // the process has its own
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:noctx // ended by stop and kill
	p.cmd.Stdout, p.cmd.Stderr = log, log
	for _, inherited := range os.Environ() {
		if !strings.HasPrefix(inherited, "TRIBUTARY_") && !strings.HasPrefix(inherited, "PORT=") {
			p.cmd.Env = append(p.cmd.Env, inherited)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		p.cmd.Env = append(p.cmd.Env, name+"="+p.env[name])
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	ended, cmd := make(chan error, 1), p.cmd
	p.done = ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

func (p *Process) awaitReady(ctx context.Context) error {
	var ended error
	err := Eventually(ctx, 60*time.Second, func() error {
		select {
		case err := <-p.done:
			p.done <- err
			ended = fmt.Errorf("it ended: %w", err)
			return nil
		default:
		}
		status, body, err := NewClient(p.URL).Send(ctx, http.MethodGet, "/readyz", http.Header{}, nil)
		if err == nil && status != 200 {
			err = fmt.Errorf("not ready: %s", body)
		}
		return err
	})
	return errors.Join(ended, err)
}

// Stop asks every process to end, and waits.
func (m *Mesh) Stop(ctx context.Context) error {
	for _, p := range m.processes {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that ended is found below
	}
	for _, p := range m.processes {
		if err := p.awaitEnd(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd of a process that was told to end, well.
func (p *Process) awaitEnd(ctx context.Context) error {
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			return fmt.Errorf("%s did not end well: %w", p.Name, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends every process with SIGKILL and waits until each is gone.
func (m *Mesh) Kill() {
	for _, p := range m.processes {
		if p.done != nil {
			_ = p.cmd.Process.Kill() // one that ended needs none
		}
	}
	for _, p := range m.processes {
		if p.done != nil {
			p.done <- <-p.done
		}
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
		p.env[name] = value
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
			errs = append(errs, p.cmd.Process.Signal(s))
		}
		return errors.Join(errs...)
	}
	return func() { _ = signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// Client makes a client with the owner's key, which it wants in a file that is nobody else's.
func (m *Mesh) Client() (*Client, error) {
	path := filepath.Join(m.keyDir, "api-key")
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
