package mesh

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tributary.dev/libs/wire"
)

// Parts are the Kafka and the PostgreSQL that a mesh with Real stands on.
type Parts struct {
	// Broker and Database may be harmed; nil where they are shared.
	Broker, Database Part

	kafka, server string   // addresses of the brokers, and the URL of the database server
	written       []string // their folders
	doors         []*door
	home          string // of the database server
}

// door is one way into Kafka, which leads over a wire and tells clients to come back by it.
type door struct {
	*wire.Wire
	port string
}

// SharedParts are those of `make services`, as its env says.
func SharedParts() (*Parts, error) {
	p := &Parts{kafka: os.Getenv("TRIBUTARY_TEST_KAFKA"), server: os.Getenv("TRIBUTARY_TEST_POSTGRES")}
	if p.kafka == "" || p.server == "" {
		return nil, errors.New("real parts need Kafka and PostgreSQL: make services, and source .services/env")
	}
	return p, p.find(sharedFolder())
}

// sharedFolder is where `make services` keeps its own.
func sharedFolder() string {
	if folder := os.Getenv("TRIBUTARY_SERVICES"); folder != "" {
		return folder
	}
	return ".services"
}

// OwnParts starts a Kafka and a PostgreSQL that are nobody else's, in a folder of their own; Close ends them,
// and so does the end of this process. Doors is how many processes of a mesh may have wires to them.
func OwnParts(ctx context.Context, folder string, doors int) (p *Parts, err error) {
	scripts, err := scripts()
	if err != nil {
		return nil, err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { // the user postgres has to enter it
		return nil, err
	}
	p = &Parts{}
	env := append(os.Environ(), "TRIBUTARY_SERVICES="+folder, "TRIBUTARY_SERVICES_PORTS="+strings.Join([]string{freePort(), freePort(), freePort()}, " "))
	defer func() {
		if err == nil {
			return
		}
		ending := context.WithoutCancel(ctx)
		err = errors.Join(err, p.Close(ending), script(ending, env, filepath.Join(scripts, "down")))
		p = nil
	}()
	told := make([]string, doors)
	for i := range doors {
		d := &door{Wire: &wire.Wire{Kafka: true}, port: freePort()}
		if err := d.Listen("127.0.0.1:0", func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", loopback(d.port))
		}); err != nil {
			return p, err
		}
		p.doors = append(p.doors, d)
		told[i] = d.port + d.Addr()[strings.LastIndexByte(d.Addr(), ':'):]
	}
	env = append(env, "TRIBUTARY_SERVICES_JARS="+filepath.Join(sharedOr(scripts), "kafka"),
		"TRIBUTARY_SERVICES_DOORS="+strings.Join(told, " "), "TRIBUTARY_SERVICES_WHILE="+strconv.Itoa(os.Getpid()),
		"JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC") // it starts often, and seldom runs for long
	up := func(part string) func(ctx context.Context) error {
		return func(ctx context.Context) error { return script(ctx, env, filepath.Join(scripts, "up"), part) }
	}
	broker := &server{name: "broker", up: up("kafka"), pidFile: filepath.Join(folder, "kafka", "pid"), stop: syscall.SIGTERM}
	database := &server{name: "database", up: up("postgres"), stop: syscall.SIGINT} // TERM waits for clients to leave
	p.Broker, p.Database = broker, database
	if err := errors.Join(broker.Start(ctx), database.Start(ctx)); err != nil {
		return p, err
	}
	if err := p.readEnv(filepath.Join(folder, "env")); err != nil {
		return p, err
	}
	if err := p.find(folder); err != nil {
		return p, err
	}
	p.home = p.written[1]
	database.pidFile = filepath.Join(p.home, "data", "postmaster.pid")
	return p, nil
}

// Close ends parts of one's own and removes what they keep outside their folder.
func (p *Parts) Close(ctx context.Context) error {
	var errs []error
	for _, d := range p.doors {
		d.Close()
	}
	for _, s := range []Part{p.Broker, p.Database} {
		if s != nil {
			errs = append(errs, s.Kill())
		}
	}
	if p.home != "" {
		errs = append(errs, os.RemoveAll(p.home))
	}
	return errors.Join(errs...)
}

// sharedOr is the shared folder, found from where this checkout's scripts lie.
func sharedOr(scripts string) string {
	if folder := sharedFolder(); filepath.IsAbs(folder) {
		return folder
	}
	return filepath.Join(scripts, "..", "..", ".services")
}

// scripts finds deploy/services of the checkout that this runs in.
func scripts() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		folder := filepath.Join(at, "deploy", "services")
		if _, err := os.Stat(filepath.Join(folder, "up")); err == nil {
			return folder, nil
		}
		if filepath.Dir(at) == at {
			return "", errors.New("deploy/services is not in this folder or above: run it in the checkout")
		}
		at = filepath.Dir(at)
	}
}

func script(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, out)
	}
	return nil
}

// readEnv takes the addresses from the file that up writes.
func (p *Parts) readEnv(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch value = strings.Trim(value, "'"); name {
		case "TRIBUTARY_TEST_KAFKA":
			p.kafka = value
		case "TRIBUTARY_TEST_POSTGRES":
			p.server = value
		}
	}
	return nil
}

// find where Kafka and PostgreSQL write.
func (p *Parts) find(folder string) error {
	return withDatabase(p.server, func(db *sql.DB) error {
		data, err := texts(context.Background(), db, "SHOW data_directory")
		if err == nil {
			p.written = []string{filepath.Join(folder, "kafka"), filepath.Dir(data[0])} // the log lies beside the data
		}
		return err
	})
}

// databaseAddr is the host:port of the database server.
func (p *Parts) databaseAddr() (string, error) {
	u, err := url.Parse(p.server)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}

// server is a Kafka or a PostgreSQL: a process, and those it has begot.
type server struct {
	name    string
	up      func(ctx context.Context) error
	pidFile string
	stop    syscall.Signal
}

func (s *server) String() string { return s.name }

func (s *server) Start(ctx context.Context) error { return s.up(ctx) }

// Stop asks it to end, without waiting for its clients.
func (s *server) Stop(ctx context.Context) error {
	all := s.processes()
	if len(all) == 0 {
		return nil
	}
	if err := syscall.Kill(all[0], s.stop); err != nil {
		return err
	}
	return awaitGone(ctx, all)
}

func (s *server) Kill() error {
	all := s.processes()
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL) // one that ended needs none
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return awaitGone(ctx, all)
}

func (s *server) Pause() error { return s.signal(syscall.SIGSTOP) }

func (s *server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *server) signal(what syscall.Signal) error {
	all := s.processes()
	if len(all) == 0 {
		return fmt.Errorf("the %s does not run", s.name)
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, what) // a child may have ended meanwhile
	}
	return nil
}

// processes of it that live: first the one that begot the others.
func (s *server) processes() []int {
	text, err := os.ReadFile(s.pidFile)
	if err != nil {
		return nil // it does not run
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil || parentOf(pid) < 0 {
		return nil
	}
	all := []int{pid}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if child, err := strconv.Atoi(e.Name()); err == nil && parentOf(child) == pid {
			all = append(all, child)
		}
	}
	return all
}

// parentOf a process that lives; -1: it does not.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return -1
	}
	// "pid (name) state parent …", and the name may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil || fields[0] == "Z" {
		return -1
	}
	return parent
}

func awaitGone(ctx context.Context, pids []int) error {
	return Eventually(ctx, time.Minute, func() error {
		for _, pid := range pids {
			if parentOf(pid) >= 0 {
				return fmt.Errorf("process %d has not ended", pid)
			}
		}
		return nil
	})
}
