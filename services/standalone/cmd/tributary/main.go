// Command tributary is the mesh's one command line: it runs the whole mesh in one process and checks
// what the mesh hands out. `tributary help` lists the commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"tributary.dev/services/standalone"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(standalone.Command(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
