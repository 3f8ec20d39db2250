package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"tributary.dev/libs/telemetry"
)

// Exit codes of a process.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitConfig = 2
)

// Main runs one service as a process until TERM or INT. Faults of configuration are printed all at once,
// each with its setting, and exit with 2.
func Main(s Service) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(Process(ctx, s, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// Process is Main with everything from outside given; it returns the exit code.
func Process(ctx context.Context, s Service, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "ready" {
		return askReady(ctx, s, environ, stdout, stderr)
	}
	if len(args) > 0 {
		return usage(s, args, stdout, stderr)
	}
	common := Defaults()
	targets := []any{&common}
	var settings any
	if s.Config != nil {
		settings = s.Config()
		targets = append(targets, settings)
	}
	unknown, err := Load(environ, targets...)
	if err = errors.Join(err, s.Lacks(common)); err != nil {
		PrintFaults(stderr, s.Name, err)
		return ExitConfig
	}
	p, err := Open(ctx, s.Name, common)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", s.Name, telemetry.ErrorText(err))
		return ExitFailed
	}
	for _, name := range unknown {
		p.Telemetry.Log.WarnContext(ctx, "unknown setting", "setting", name)
	}
	code := ExitOK
	if err := p.Run(ctx, Unit{Service: s, Settings: settings}); err != nil {
		p.Telemetry.Log.ErrorContext(ctx, "ended with a fault", "error", err)
		code = ExitFailed
	}
	//bound:timeout flushing at the end of a process | {} | what is not flushed is given up, and logged
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := p.Close(closing); err != nil {
		p.Telemetry.Log.WarnContext(closing, "not everything was flushed", "error", err)
	}
	return code
}

// PrintFaults prints every fault of a configuration once, a line each.
func PrintFaults(w io.Writer, name string, err error) {
	faults := strings.Split(strings.TrimSpace(err.Error()), "\n")
	_, _ = fmt.Fprintf(w, "%s: the configuration has faults:\n", name)
	for i, f := range faults {
		if !slices.Contains(faults[:i], f) { // several services of one process need the same
			_, _ = fmt.Fprintf(w, "  %s\n", f)
		}
	}
}

func usage(s Service, args []string, stdout, stderr io.Writer) int {
	if args[0] != "help" && args[0] != "-h" && args[0] != "-help" && args[0] != "--help" {
		_, _ = fmt.Fprintf(stderr, "%s takes its settings from the environment and no arguments but ready and help; %s help lists them\n", s.Name, s.Name)
		return ExitConfig
	}
	common := Defaults()
	_, _ = fmt.Fprintf(stdout, "%[1]s takes its settings from the environment; %[1]s ready asks one that runs whether it is ready (exit 0).\n\n%[2]s\nCommon to all services:\n\n%[3]s", s.Name, Docs(s), Table(&common))
	return ExitOK
}
