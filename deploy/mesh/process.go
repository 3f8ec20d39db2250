package mesh

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process gives one of the mesh's processes.
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

// StopProcess asks one process to end, and waits until it did, well.
func (m *Mesh) StopProcess(ctx context.Context, name string) error {
	p, err := m.Process(name)
	if err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return p.awaitEnd(ctx)
}

// StartProcess starts one that has ended, and waits until it is ready.
func (m *Mesh) StartProcess(ctx context.Context, name string) error {
	p, err := m.Process(name)
	if err == nil {
		err = m.launch(p)
	}
	if err == nil {
		err = p.awaitReady(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w (see its log)", name, err)
	}
	return nil
}

// Prefix stands before the names of its topics; "" where it is one process.
func (m *Mesh) Prefix() string {
	if m.real == nil {
		return ""
	}
	return m.real.name + "."
}

// PID of the process as it was last started.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CPU is the processor time that the process has used since it was started.
func (p *Process) CPU() (time.Duration, error) { return CPU(p.PID()) }

// Resident is the memory that the process holds, in bytes.
func (p *Process) Resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, err
	}
	return kib << 10, nil
}

// CPU is the processor time, of user and system, that a process has used, in steps of 10 ms (proc_pid_stat(5)).
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
