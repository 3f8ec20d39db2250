// Command standin runs the stand-in of every provider, for an integrator who has none of the real ones: a mesh that is
// told of them sends to them, and they send it signed webhooks when asked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("standin", flag.ContinueOnError)
	port := flags.Int("port", 9400, "port of the desk; the providers have those after it")
	public := flags.String("mesh", "http://127.0.0.1:8080", "the mesh's public URL")
	key := flags.String("key", "", "an API key of the mesh that may connect accounts")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	host := &providers.Host{Port: *port + 1, Public: *public}
	if *port == 0 {
		host.Port = 0
	}
	all, err := providers.Start(host)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, providers.Close(all)) }()
	d := &desk{all: all, api: mesh.NewClient(*public), connected: map[string]bool{}, said: int(time.Now().Unix() % 1_000_000)}
	d.api.Key = *key
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)))
	if err != nil {
		return err
	}
	d.greet(out, "http://"+l.Addr().String())
	server := &http.Server{Handler: d.routes(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case <-ctx.Done():
		return server.Close()
	case err := <-ended:
		return err
	}
}

// greet says how a mesh is told of the providers, and what to ask the desk.
func (d *desk) greet(out io.Writer, url string) {
	fmt.Fprintln(out, "# Start the mesh with these:")
	settings := providers.Settings(d.all)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(out, "export %s=%s\n", name, settings[name])
	}
	var names []string
	for _, p := range d.all {
		names = append(names, p.Name())
	}
	fmt.Fprintf(out, `
# Then, with KEY the mesh's API key, for one of %s:
curl -s %[2]s/connect -d '{"provider":"%[3]s","key":"'$KEY'"}'          # connects its account
curl -s %[2]s/say -d '{"provider":"%[3]s","person":1,"text":"Hello"}'   # a person writes: a signed webhook
curl -s %[2]s/withdraw -d '{"provider":"Messenger","erase":false}'     # who connected it by a link takes the app away; erase: asks for deletion
curl -s %[2]s/taken                                                  # what the mesh has sent
curl -s %[2]s/tell -d '{"provider":"Twilio","message":0,"status":"delivered"}'             # what became of the first of it: delivered, read, failed
curl -s %[2]s/fail -d '{"provider":"%[3]s","calls":3,"refuse":429,"retry_after":2}'         # the next calls fail; or "delay_ms", "hang_up"
`, strings.Join(names, ", "), url, names[0])
}
