package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"golang.org/x/net/netutil"
)

// maxProfiles are taken at once.
const maxProfiles = 8

// serveProfiles serves Go's profiles where the settings say so: of code, never of data, and with no key asked
// for, so that the address should be loopback's.
func (r *run) serveProfiles(ctx context.Context) error {
	address := r.p.Common.ProfileListen
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("TRIBUTARY_PROFILE_LISTEN: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // by name: heap, goroutine, mutex, …
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := newServer(mux)
	ended := make(chan struct{})
	//bound:exempt the server's own, which the process ends
	go func() {
		defer close(ended)
		//bound:goroutines connections for profiles | {maxProfiles} | the next waits to be accepted
		_ = server.Serve(netutil.LimitListener(l, maxProfiles)) // until it is closed
	}()
	r.undo = append(r.undo, func(context.Context) error {
		err := server.Close()
		<-ended
		return err
	})
	return nil
}
