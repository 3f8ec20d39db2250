package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tributary.dev/libs/wire"
)

// Part is what harm can be done to: a process of the mesh, or the broker or the database that it stands on.
type Part interface {
	fmt.Stringer
	// Kill ends it with SIGKILL and waits until it is gone.
	Kill() error
	// Stop asks it to end, and waits. An error says that it did not end well.
	Stop(ctx context.Context) error
	// Start starts it where it does not run, and waits until it is ready.
	Start(ctx context.Context) error
	// Pause stops it where it stands (SIGSTOP), as a machine does that is suspended, until Resume.
	Pause() error
	Resume() error
}

// Process is one of a mesh's processes: a replica of a service, or all services.
type Process struct {
	// Name is the service's; that of a second replica ends with -2.
	Name string
	// Service is the name of its binary.
	Service string
	// URL is where it alone is reached.
	URL string
	// Profiles is where Go's profiles of it are; "" where the mesh is not Profiled.
	Profiles string
	// Broker, Database and Registry are the wires to what it stands on; nil without Config.Wires.
	Broker, Database, Registry *wire.Wire

	command []string
	log     string
	front   *front // nil: it is reached directly

	mu      sync.Mutex
	env     map[string]string
	running *running // nil where it was never started
}

// running is a process that was started.
type running struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	err   error         // how; to be read then
}

func (r *running) gone() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (p *Process) String() string { return p.Name }

// Process gives one of the mesh's processes by its name.
func (m *Mesh) Process(name string) (*Process, error) {
	for _, p := range m.processes {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("mesh: no process %q", name)
}

// Processes are all of them.
func (m *Mesh) Processes() []*Process { return m.processes }

// Of gives the replicas of a service; where one process does it all, that.
func (m *Mesh) Of(service string) []*Process {
	if m.real == nil {
		return m.processes
	}
	var all []*Process
	for _, p := range m.processes {
		if p.Service == service {
			all = append(all, p)
		}
	}
	return all
}

// StopProcess asks one process to end, and waits until it did, well.
func (m *Mesh) StopProcess(ctx context.Context, name string) error {
	p, err := m.Process(name)
	if err != nil {
		return err
	}
	return p.Stop(ctx)
}

// StartProcess starts one that has ended, and waits until it is ready.
func (m *Mesh) StartProcess(ctx context.Context, name string) error {
	p, err := m.Process(name)
	if err != nil {
		return err
	}
	return p.Start(ctx)
}

// Set changes a setting, for the next start; "" takes it away.
func (p *Process) Set(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.env[name] = value; value == "" {
		delete(p.env, name)
	}
}

// Start starts it where it does not run, and waits until it is ready and reached.
func (p *Process) Start(ctx context.Context) error {
	if err := p.begin(); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

func (p *Process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil && !p.running.gone() {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                                   // the process has its own
	cmd := exec.Command(p.command[0], p.command[1:]...) //nolint:noctx // ended by Stop and Kill
	cmd.Stdout, cmd.Stderr = log, log
	for _, inherited := range os.Environ() {
		if !strings.HasPrefix(inherited, "TRIBUTARY_") && !strings.HasPrefix(inherited, "PORT=") {
			cmd.Env = append(cmd.Env, inherited)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		cmd.Env = append(cmd.Env, name+"="+p.env[name])
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := &running{cmd: cmd, ended: make(chan struct{})}
	p.running = r
	go func() { r.err = cmd.Wait(); close(r.ended) }()
	return nil
}

// awaitReady waits until it says that it is ready, and whoever routes to it knows.
func (p *Process) awaitReady(ctx context.Context) error {
	r := p.current()
	var ended error
	err := Eventually(ctx, time.Minute, func() error {
		if r == nil || r.gone() {
			ended = errors.New("it ended")
			return nil
		}
		status, body, err := NewClient(p.URL).Send(ctx, http.MethodGet, "/readyz", http.Header{}, nil)
		switch {
		case err != nil:
			return err
		case status != http.StatusOK:
			return fmt.Errorf("not ready: %s", body)
		case p.front != nil && !p.front.routes(p):
			return errors.New("not found by the front")
		}
		return nil
	})
	if err = errors.Join(ended, err); err != nil {
		return fmt.Errorf("%s: %w; its last words: %s", p.Name, err, p.lastWords())
	}
	return nil
}

func (p *Process) current() *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// Stop asks it to end (TERM), and waits.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.signal(syscall.SIGTERM) // one that ended is found below
	return p.awaitEnd(ctx)
}

func (p *Process) awaitEnd(ctx context.Context) error {
	r := p.current()
	if r == nil {
		return nil
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, ctx.Err())
	}
	if r.err != nil {
		return fmt.Errorf("%s did not end well: %w; its last words: %s", p.Name, r.err, p.lastWords())
	}
	return nil
}

// lastWords are the end of its log.
func (p *Process) lastWords() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-1000):])
}

// Kill ends it with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if r := p.current(); r != nil {
		_ = p.signal(syscall.SIGKILL) // one that ended needs none
		<-r.ended
	}
	return nil
}

// Pause stops it where it stands.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	r := p.current()
	if r == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return r.cmd.Process.Signal(s)
}

// PID of the process as it was last started; 0: never.
func (p *Process) PID() int {
	if r := p.current(); r != nil {
		return r.cmd.Process.Pid
	}
	return 0
}
