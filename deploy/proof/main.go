package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// mostWebhooks that a scenario is run with: what the program remembers of each fits into memory.
const mostWebhooks = 10_000_000

// start gives the exit code: 0 where all holds, 1 where something does not or could not be done, 2 for what the
// program can't be told.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{out: stdout}
	flags := flag.NewFlagSet("proof", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.bin, "bin", "bin", "folder of the binaries")
	flags.StringVar(&o.parts, "parts", embedded, "embedded or real")
	flags.IntVar(&o.size, "n", 20_000, fmt.Sprintf("webhooks of a scenario, rounded down to conversations of %d", perConversation))
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()%1_000_000), "repeats traffic and plan of harm, though not the moments at which it meets the mesh")
	names := flags.String("scenario", "", "names, comma-separated; empty: all")
	file := flags.String("out", "proof.json", "file of the results")
	list := flags.Bool("list", false, "list these scenarios, and run none")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	chosen, err := choose(*names, o.parts)
	if o.size < 1 || o.size > mostWebhooks || flags.NArg() > 0 {
		err = fmt.Errorf("-n is a number from 1 to %d, and nothing stands behind the flags", mostWebhooks)
	}
	if err != nil {
		fmt.Fprintln(stderr, "proof:", err)
		return 2
	}
	if *list {
		for _, s := range chosen {
			fmt.Fprintf(stdout, "%-10s %s (%s)\n", s.name, s.harm, strings.Join(s.parts, ", "))
		}
		return 0
	}
	begun := time.Now()
	o.say = func(format string, a ...any) {
		fmt.Fprintf(stderr, "%6.1fs  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, a...))
	}
	ok, err := o.prove(ctx, chosen, *file)
	if err != nil {
		fmt.Fprintln(stderr, "proof:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// prove carries the scenarios out and tells whether all hold. What was found is told also where a later one could
// not be carried out.
func (o options) prove(ctx context.Context, chosen []scenario, file string) (ok bool, err error) {
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return false, err
	}
	written, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644) // now, and not when all is done
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, written.Close()) }()
	folder, err := os.MkdirTemp("", "tributary-proof-")
	if err != nil {
		return false, err
	}
	o.own = &ownParts{}
	results := []result{}
	fmt.Fprintf(o.out, "N=%d SEED=%d PARTS=%s\n", o.size, o.seed, o.parts)
	defer func() {
		err = errors.Join(err, o.own.close(context.WithoutCancel(ctx)))
		if ctx.Err() == nil || len(results) > 0 { // else what was there before is worth more
			printTable(o.out, results)
			err = errors.Join(err, writeResults(written, results))
		}
		_ = os.Remove(folder) // unless something in it is to be looked at
	}()
	ok = true
	for _, s := range chosen {
		o.say("%s: %s", s.name, s.harm)
		o.data = filepath.Join(folder, s.name)
		r, err := s.carryOut(ctx, o)
		if ctx.Err() != nil { // whoever ends it looks for nothing in its files
			left, _ := filepath.Glob(o.data + "*") // copies beside it too; the pattern is a good one
			ended := []error{ctx.Err()}
			for _, one := range left {
				ended = append(ended, os.RemoveAll(one))
			}
			return false, errors.Join(ended...)
		}
		for _, broken := range r.Broken {
			o.say("%s: BROKEN: %s", s.name, broken)
		}
		if err != nil {
			return false, fmt.Errorf("%w (its files lie in %s)", err, o.data)
		}
		results = append(results, r)
		if !r.holds() {
			ok = false
			o.say("%s does not hold: its files lie in %s", s.name, o.data)
		} else if err := os.RemoveAll(o.data); err != nil {
			return false, err
		}
	}
	return ok, nil
}

func writeResults(file *os.File, results []result) error {
	raw, err := json.MarshalIndent(results, "", "  ")
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.Write(append(raw, '\n'))
	}
	return err
}

// choose finds the scenarios of the names that apply to the parts.
func choose(names, parts string) (chosen []scenario, err error) {
	if parts != embedded && parts != real {
		return nil, fmt.Errorf("parts are embedded or real, not %q", parts)
	}
	wanted := strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	if names != "" && len(wanted) == 0 {
		return nil, errors.New("-scenario names none")
	}
	for _, s := range scenarios() {
		i := slices.Index(wanted, s.name)
		if i >= 0 {
			wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == s.name })
		} else if names != "" {
			continue
		}
		if slices.Contains(s.parts, parts) {
			chosen = append(chosen, s)
		} else if i >= 0 {
			return nil, fmt.Errorf("%s runs with %s parts alone", s.name, strings.Join(s.parts, ", "))
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("no scenario is called %s; -list tells which there are", strings.Join(wanted, ", "))
	}
	return chosen, nil
}

func printTable(out io.Writer, results []result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tparts\taccepted\tlost\tdoubled\tdisordered\tlate max (ms)\tseconds\t\t")
	for _, r := range results {
		verdict := "holds"
		if !r.holds() {
			verdict = fmt.Sprintf("FAILS (%d broken)", len(r.Broken))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%s\t\n", r.Scenario, r.Parts, r.Accepted, r.Lost, r.Doubled, r.Disordered, r.LateMSMax, r.Seconds, verdict)
	}
	_ = w.Flush() // to the terminal
}
