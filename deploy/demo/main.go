// Command demo shows the whole way of a message through a mesh of its own, and then a person's erasure
// with its proof. It knows the mesh from outside only: its command line, webhooks, API, metrics, and the
// files it leaves. Providers are stand-ins. It exits with 0 only if everything it says is so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the mesh's binaries")
	parts := flag.String("parts", "embedded", "embedded (one process) or real (one process a service, on Kafka and PostgreSQL)")
	keep := flag.Bool("keep", false, "keep the data folder")
	flag.Parse()
	if flag.NArg() > 0 || (*parts != "embedded" && *parts != "real") {
		fmt.Fprintln(os.Stderr, "demo: -parts is embedded or real")
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := run(ctx, *bin, *parts, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\n✗", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, parts string, keep bool) (err error) {
	data, err := os.MkdirTemp("", "tributary-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if keep || err != nil {
			fmt.Println("\nData and logs are kept in", data)
			return
		}
		_ = os.RemoveAll(data)
	}()
	s, err := newStory(bin, parts, data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	began := time.Now()
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"The mesh starts", s.start},
		{"A workspace connects a Slack team and a phone number", s.connect},
		{"Traffic: signed, in batches, shuffled, doubled, edits before their message, and a forgery", s.traffic},
		{"What the API shows", s.read},
		{"Replies, and what the providers received", s.reply},
		{"The mesh stops and starts again", s.restart},
		{"Two people are erased", s.erase},
		{"The certificate is checked offline", s.verify},
		{"The old traffic comes again, and the person writes again", s.replay},
		{"The sweep destroys keys that nobody needs", s.sweep},
		{"The backup from before the erasure is restored beside the living key registry", s.restored},
		{"An owner connects a workspace by a link", s.link},
		{"Every other channel", s.elsewhere},
		{"The mesh stops, and every file it wrote is searched", s.search},
	} {
		fmt.Printf("\n── %s\n", chapter.title)
		if err := chapter.tell(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	fmt.Printf("\n✓ All of it held, in %.0f s.\n", time.Since(began).Seconds())
	return nil
}

// say prints one line of progress.
func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }
