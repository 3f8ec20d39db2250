package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// readyWithin is a probe's patience: whoever asks by a command asks again soon.
const readyWithin = 3 * time.Second

// askReady asks the process that the same environment describes whether it is ready, and gives the exit code: for
// what can run a command beside a service and nothing else (an image of ours has no shell, and no curl).
func askReady(ctx context.Context, s Service, environ []string, stdout, stderr io.Writer) int {
	common := Defaults()
	if _, err := Load(environ, &common); err != nil {
		PrintFaults(stderr, s.Name, err)
		return ExitConfig
	}
	if err := ready(ctx, common.Listen, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		return ExitFailed
	}
	return ExitOK
}

// ready shows what /readyz answers at an address that is listened on.
func ready(ctx context.Context, listen string, stdout io.Writer) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	//bound:timeout asking a service by its own command whether it is ready | {} | it counts as not ready
	client := &http.Client{Timeout: readyWithin}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(stdout, io.LimitReader(resp.Body, maxHeader)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}
